from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from selfcon.config import ModelConfig
from selfcon.model import build_encoder
from selfcon.model.resnet import RESNETS


def torchvision_twin(backbone: nn.Module, name: str, *, image_size: int) -> Any:
    """Torchvision's network with the same weights and no classifier, with the small stem."""
    twin = torchvision.models.get_model(name, weights=None)
    twin.fc = nn.Identity()
    if image_size <= 64:
        twin.conv1 = nn.Conv2d(3, 64, kernel_size=3, stride=1, padding=1, bias=False)
        twin.maxpool = nn.Identity()
    twin.load_state_dict(backbone.state_dict())
    return twin


@pytest.mark.parametrize(
    ("name", "image_size", "dtype", "tolerance"),
    [
        ("resnet18", 32, torch.float32, 1e-6),
        ("resnet18", 96, torch.float32, 1e-6),
        ("resnet18", 96, torch.float64, 1e-12),
        ("resnet50", 65, torch.float32, 1e-6),
    ],
)
def test_backbone_equals_torchvision_with_the_same_names(
    name: Any, image_size: int, dtype: torch.dtype, tolerance: float
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(backbone=name, exit_stages=(2,)), image_size=image_size).to(dtype)
    twin = torchvision_twin(encoder.backbone, name, image_size=image_size).to(dtype)
    images_RCHW = torch.randn(2, 3, image_size, image_size, dtype=dtype)
    for network in (encoder, twin):
        network.train()(images_RCHW)
        network.eval()
    # Relative to the largest, because after a training step on random weights features can have any scale.
    features_RD, expected_RD = encoder.features(images_RCHW)[-1], twin(images_RCHW)
    scale = expected_RD.abs().max().item()
    torch.testing.assert_close(features_RD, expected_RD, rtol=0, atol=tolerance * max(1, scale))


@pytest.mark.parametrize("name", RESNETS)
def test_width_scales_every_layer(name: Any) -> None:
    with torch.device("meta"):
        wide, narrow = (
            build_encoder(ModelConfig(backbone=name, width=width), image_size=32).backbone
            for width in (64, 16)
        )
    for (wide_name, a), (narrow_name, b) in zip(
        wide.named_parameters(), narrow.named_parameters(), strict=True
    ):
        assert wide_name == narrow_name
        assert a.shape[0] == 4 * b.shape[0]


def test_convolutions_are_initialised_like_torchvision() -> None:
    """Zero mean, a variance of 2 / (kernel area x output channels); normalisation starts as the identity."""
    torch.manual_seed(0)
    backbone = build_encoder(ModelConfig(), image_size=96).backbone
    convolutions = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    for layer in convolutions:
        expected = (2 / (layer.weight[0, 0].numel() * layer.out_channels)) ** 0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.05)
        assert abs(layer.weight.mean().item()) < 0.05 * expected
    scales = [
        value for name, value in backbone.named_parameters() if name.endswith(("bn1.weight", "bn2.weight"))
    ]
    assert len(scales) == 17
    assert all((scale == 1).all() for scale in scales)


@pytest.mark.parametrize(("image_size", "resolution"), [(8, 8), (64, 64), (65, 17), (96, 24)])
def test_stem_keeps_the_resolution_of_small_images_and_reduces_others_by_4(
    image_size: int, resolution: int
) -> None:
    encoder = build_encoder(ModelConfig(width=4), image_size=image_size)
    sizes: list[tuple[int, ...]] = []
    first_stage = encoder.backbone.get_submodule("layer1")
    first_stage.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.shape))
    encoder(torch.randn(2, 3, image_size, image_size))
    assert sizes == [(2, 4, resolution, resolution)]
