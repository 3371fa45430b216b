import json
from typing import Any

import pytest
import torch
from torch import nn

from selfcon.config import ModelConfig
from selfcon.model import build_encoder
from selfcon.model.cost import encoder_parameters, forward_macs
from tests.project import GOLDEN

ROWS = json.loads((GOLDEN / "architectures.json").read_text())["rows"]
TINY = ModelConfig(width=4, exit_stages=(1, 2), exit_depth="small")


# Weights and multiply-accumulates of a 224-pixel image as torchvision documents them, in 1 and 10^9.
PUBLISHED = {
    "resnet50": (25_557_032, 4.089),
    "efficientnet_b0": (5_288_548, 0.386),
    "convnext_tiny": (28_589_128, 4.456),
    "regnet_y_400mf": (4_344_144, 0.402),
}


def test_golden_file_has_92_networks_of_the_authors() -> None:
    assert len(ROWS) == 92


@pytest.mark.parametrize(
    "row", ROWS, ids=lambda row: f"{row['arch']}-{row['stem']}-{row['exit']}-{row['depth']}"
)
def test_costs_equal_those_of_the_authors_networks(row: dict[str, Any]) -> None:
    exits = (
        {"exit_stages": (row["exit"],), "exit_depth": row["depth"]} if row["exit"] else {"exit_stages": ()}
    )
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(backbone=row["arch"], **exits), image_size=row["image"])
    assert encoder_parameters(encoder) == row["encoder_parameters"]
    assert forward_macs(encoder, image_size=row["image"]) == row["forward_macs"]


@pytest.mark.parametrize(("name", "weights", "giga_macs"), [(name, *row) for name, row in PUBLISHED.items()])
def test_costs_equal_torchvision_without_the_classifier(name: Any, weights: int, giga_macs: float) -> None:
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(backbone=name, exit_stages=()), image_size=224)
    assert encoder_parameters(encoder) == weights - 1000 * (encoder.feature_dim + 1)
    macs = forward_macs(encoder, image_size=224) + 1000 * encoder.feature_dim
    assert macs / 1e9 == pytest.approx(giga_macs, abs=0.0006)


def test_projection_heads_are_not_counted() -> None:
    one, other = (
        build_encoder(TINY.model_copy(update={"projection_dim": dim}), image_size=16) for dim in (1, 128)
    )
    assert encoder_parameters(one) == encoder_parameters(other)
    assert forward_macs(one, image_size=16) == forward_macs(other, image_size=16)


def test_macs_of_convolutions_are_a_quarter_at_half_the_image_size() -> None:
    encoder = build_encoder(TINY.model_copy(update={"exit_stages": ()}), image_size=32)
    assert forward_macs(encoder, image_size=32) == 4 * forward_macs(encoder, image_size=16)


def test_linear_layers_are_counted_at_every_pixel() -> None:
    config = ModelConfig(backbone="convnext_tiny", width=8, exit_stages=())
    encoder = build_encoder(config, image_size=32)
    # By hand: stages of 12, 24, 48, 96 channels on 32, 16, 8, 4 pixels; stem, halvings, then blocks of a 7x7
    # convolution of single channels and two linear layers.
    stem = 32**2 * 9 * 3 * 12
    halvings = 16**2 * 4 * 12 * 24 + 8**2 * 4 * 24 * 48 + 4**2 * 4 * 48 * 96
    stages = ((3, 32, 12), (3, 16, 24), (9, 8, 48), (3, 4, 96))
    blocks = sum(num * size**2 * (49 * dim + 8 * dim * dim) for num, size, dim in stages)
    assert forward_macs(encoder, image_size=32) == stem + halvings + blocks


def test_counting_does_not_change_the_encoder() -> None:
    encoder = build_encoder(TINY, image_size=16).double().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    forward_macs(encoder, image_size=16)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training
    assert not any(module._forward_hooks for module in encoder.modules())


@pytest.mark.parametrize("name", ["resnet18", "wrn_16_8", "efficientnet_b0", "regnet_y_400mf"])
def test_macs_for_one_pixel_equal_the_number_of_weights(name: Any) -> None:
    encoder = build_encoder(ModelConfig(backbone=name, width=4, exit_stages=(2,)), image_size=8)
    layers = [*encoder.backbone.modules(), *encoder.exits.modules()]
    weights = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert forward_macs(encoder, image_size=1) == sum(weight.numel() for weight in weights)
