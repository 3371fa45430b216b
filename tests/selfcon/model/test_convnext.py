from typing import Any

import pytest
import torch

from selfcon.config import ModelConfig
from selfcon.errors import ConfigError
from selfcon.model import SelfConEncoder, build_encoder


def narrow(*, width: int = 8, image_size: int = 32) -> SelfConEncoder:
    config = ModelConfig(backbone="convnext_tiny", width=width, exit_stages=(2,), exit_depth="small")
    return build_encoder(config, image_size=image_size)


@pytest.mark.parametrize(("width", "channels"), [(64, [96, 192, 384, 768]), (5, [8, 15, 30, 60])])
def test_channels_are_in_proportion_to_the_width(width: int, channels: list[int]) -> None:
    with torch.device("meta"):
        backbone = narrow(width=width).backbone
    places = [f"stage{i}.blocks.0.block.0.weight" for i in (1, 2, 3, 4)]
    assert [backbone.get_parameter(place).shape[0] for place in places] == channels


@pytest.mark.parametrize(("image_size", "kernel", "stride"), [(64, (3, 3), (1, 1)), (65, (4, 4), (4, 4))])
def test_stem_keeps_the_resolution_of_small_images(
    image_size: int, kernel: tuple[int, int], stride: tuple[int, int]
) -> None:
    stem: Any = narrow(image_size=image_size).backbone.get_submodule("stem.0")
    assert (stem.kernel_size, stem.stride) == (kernel, stride)


def test_every_exit_ends_with_a_normalisation_after_pooling() -> None:
    encoder = narrow()
    for features_RD in encoder.features(torch.randn(3, 3, 32, 32)):
        torch.testing.assert_close(features_RD.mean(dim=1), torch.zeros(3), rtol=0, atol=1e-5)
        torch.testing.assert_close(features_RD.std(dim=1, correction=0), torch.ones(3), rtol=0.01, atol=0)
    assert "exits.stage2.norm.weight" in encoder.state_dict()


@pytest.mark.parametrize("normalization", ["group", "frozen"])
def test_normalisation_cannot_be_replaced(normalization: Any) -> None:
    config = ModelConfig(backbone="convnext_tiny", width=8, normalization=normalization)
    message = (
        rf"^model\.normalization: expected batch, as convnext_tiny has LayerNorm .*, got {normalization}"
    )
    with pytest.raises(ConfigError, match=message):
        build_encoder(config, image_size=32)
