import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from selfcon.config import ModelConfig
from selfcon.model import build_encoder
from selfcon.model.cost import encoder_parameters, forward_macs

ROWS = json.loads((Path(__file__).parents[2] / "golden" / "architectures.json").read_text())["rows"]
RESNET_ROWS = [row for row in ROWS if row["arch"].startswith("resnet")]
TINY = ModelConfig(width=4, exit_stages=(1, 2), exit_depth="small")


def test_there_are_72_resnets_to_match() -> None:
    assert len(RESNET_ROWS) == 72


@pytest.mark.parametrize(
    "row", RESNET_ROWS, ids=lambda row: f"{row['arch']}-{row['stem']}-{row['exit']}-{row['depth']}"
)
def test_a_network_costs_what_the_authors_does(row: dict[str, Any]) -> None:
    exits = (
        {"exit_stages": (row["exit"],), "exit_depth": row["depth"]} if row["exit"] else {"exit_stages": ()}
    )
    with torch.device("meta"):
        encoder = build_encoder(ModelConfig(backbone=row["arch"], **exits), image_size=row["image"])
    assert encoder_parameters(encoder) == row["encoder_parameters"]
    assert forward_macs(encoder, image_size=row["image"]) == row["forward_macs"]


def test_projection_heads_cost_nothing() -> None:
    one, other = (
        build_encoder(TINY.model_copy(update={"projection_dim": dim}), image_size=16) for dim in (1, 128)
    )
    assert encoder_parameters(one) == encoder_parameters(other)
    assert forward_macs(one, image_size=16) == forward_macs(other, image_size=16)


def test_macs_are_a_quarter_for_images_of_half_the_size_but_for_linear_layers() -> None:
    encoder = build_encoder(TINY.model_copy(update={"exit_stages": ()}), image_size=32)
    assert forward_macs(encoder, image_size=32) == 4 * forward_macs(encoder, image_size=16)


def test_counting_leaves_the_encoder_as_it_was() -> None:
    encoder = build_encoder(TINY, image_size=16).double().train()
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    forward_macs(encoder, image_size=16)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())
    assert encoder.training
    assert not any(module._forward_hooks for module in encoder.modules())


def test_for_one_pixel_a_network_takes_as_many_macs_as_it_has_weights() -> None:
    encoder = build_encoder(ModelConfig(width=4, exit_stages=(3,)), image_size=8)
    layers = [*encoder.backbone.modules(), *encoder.exits.modules()]
    weights = [layer.weight for layer in layers if isinstance(layer, nn.Conv2d | nn.Linear)]
    assert forward_macs(encoder, image_size=1) == sum(weight.numel() for weight in weights)
