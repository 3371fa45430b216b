import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from selfcon.config import ModelConfig
from selfcon.model import build_encoder
from selfcon.model.normalization import BatchNorm
from selfcon.model.wide_resnet import PreactivationBlock


def activated(x_RCHW: Tensor, layer: Any) -> Tensor:
    return functional.relu(functional.batch_norm(x_RCHW, None, None, layer.weight, layer.bias, True))


@pytest.mark.parametrize(("in_channels", "stride"), [(4, 2), (4, 1), (6, 1)])
def test_block_adds_its_strided_second_convolution_to_its_input(in_channels: int, stride: int) -> None:
    torch.manual_seed(0)
    block: Any = PreactivationBlock(in_channels, 6, stride=stride, normalization=BatchNorm).double()
    x_RCHW = torch.randn(3, in_channels, 5, 5, dtype=torch.float64)
    inner = functional.conv2d(activated(x_RCHW, block.bn1), block.conv1.weight, block.conv1.bias, padding=1)
    outer = functional.conv2d(
        activated(inner, block.bn2), block.conv2.weight, block.conv2.bias, stride=stride, padding=1
    )
    torch.testing.assert_close(block(x_RCHW) - block.shortcut(x_RCHW), outer)


@pytest.mark.parametrize(("channels", "kind"), [(6, nn.Identity), (4, nn.Conv2d)])
def test_shortcut_is_the_identity_if_the_shape_is_unchanged(channels: int, kind: type[nn.Module]) -> None:
    block = PreactivationBlock(channels, 6, stride=1, normalization=BatchNorm)
    assert type(block.shortcut) is kind
    x_RCHW = torch.randn(2, channels, 4, 4)
    before = x_RCHW.clone()
    block(x_RCHW)
    assert torch.equal(x_RCHW, before)


@pytest.mark.parametrize(
    ("name", "width", "channels"),
    [
        ("wrn_16_8", 64, [16, 128, 256, 512]),
        ("wrn_16_8", 8, [2, 16, 32, 64]),
        ("wrn_28_10", 64, [16, 160, 320, 640]),
        ("wrn_28_10", 16, [4, 40, 80, 160]),
    ],
)
def test_width_64_is_the_published_network(name: Any, width: int, channels: list[int]) -> None:
    with torch.device("meta"):
        backbone = build_encoder(ModelConfig(backbone=name, width=width), image_size=32).backbone
    places = ("conv1", "layer1.0.conv2", "layer2.0.conv2", "layer3.0.conv2")
    assert [backbone.get_parameter(f"{place}.weight").shape[0] for place in places] == channels


def test_only_the_backbone_ends_with_a_normalisation() -> None:
    config = ModelConfig(backbone="wrn_16_8", width=8, exit_stages=(1,), exit_depth="same")
    encoder = build_encoder(config, image_size=32)
    assert list(dict(encoder.backbone.named_children()))[-4:] == ["bn1", "relu", "avgpool", "flatten"]
    assert list(dict(encoder.exits["layer1"].named_children())) == ["layer2", "layer3", "avgpool", "flatten"]


def test_convolutions_are_initialised_like_the_authors_with_zero_biases() -> None:
    """Uniform within sqrt(2) x sqrt(6 / (fan in + fan out))."""
    torch.manual_seed(0)
    backbone = build_encoder(ModelConfig(backbone="wrn_16_8", width=32), image_size=32).backbone
    layers = [layer for layer in backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert len(layers) == 1 + 3 * (2 * 2 + 1)
    for layer in layers:
        area = math.prod(layer.kernel_size)
        bound = math.sqrt(2) * math.sqrt(6 / (area * (layer.in_channels + layer.out_channels)))
        largest = layer.weight.abs().max().item()
        assert 0.97 * bound < largest <= bound * (1 + 1e-6)
        assert layer.weight.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.08)
        assert layer.bias is not None
        assert (layer.bias == 0).all()
