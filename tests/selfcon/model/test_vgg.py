from typing import Any

import pytest
import torch
from torch import nn

from selfcon.config import ModelConfig
from selfcon.errors import ConfigError
from selfcon.model import SelfConEncoder, build_encoder


def narrow(name: Any, *, exit_depth: Any = "fc", image_size: int = 32) -> SelfConEncoder:
    config = ModelConfig(backbone=name, width=4, exit_stages=(1, 3), exit_depth=exit_depth)
    return build_encoder(config, image_size=image_size)


def convolutions(stages: nn.Module) -> list[int]:
    counts = [sum(isinstance(layer, nn.Conv2d) for layer in stage.modules()) for stage in stages.children()]
    return [count for count in counts if count]


@pytest.mark.parametrize(
    ("name", "exit_depth", "backbone", "subnetwork"),
    [
        ("vgg13_bn", "small", [2, 2, 2, 2, 2], [1, 1, 1, 1]),
        ("vgg13_bn", "same", [2, 2, 2, 2, 2], [2, 2, 2, 2]),
        ("vgg13_bn", "large", [2, 2, 2, 2, 2], [4, 4, 4, 4]),
        ("vgg16_bn", "small", [2, 2, 3, 3, 3], [1, 1, 1, 1]),
        ("vgg16_bn", "same", [2, 2, 3, 3, 3], [3, 3, 3, 3]),
        ("vgg16_bn", 5, [2, 2, 3, 3, 3], [5, 5, 5, 5]),
    ],
)
def test_subnetwork_stages_have_the_expected_number_of_convolutions(
    name: str, exit_depth: Any, backbone: list[int], subnetwork: list[int]
) -> None:
    encoder = narrow(name, exit_depth=exit_depth)
    assert convolutions(encoder.backbone) == backbone
    assert convolutions(encoder.exits["stage1"]) == subnetwork
    assert convolutions(encoder.exits["stage3"]) == subnetwork[2:]


def test_channels_are_1_2_4_8_8_times_the_width() -> None:
    layers = [layer for layer in narrow("vgg13_bn").backbone.modules() if isinstance(layer, nn.Conv2d)]
    assert [layer.out_channels for layer in layers] == [4, 4, 8, 8, 16, 16, 32, 32, 32, 32]


def test_too_small_images_are_rejected() -> None:
    assert narrow("vgg16_bn")(torch.zeros(2, 3, 32, 32)).shape == (2, 3, 128)
    message = r"^data\.image_size: expected images of at least 32 pixels for vgg16_bn, got 31$"
    with pytest.raises(ConfigError, match=message):
        narrow("vgg16_bn", image_size=31)
