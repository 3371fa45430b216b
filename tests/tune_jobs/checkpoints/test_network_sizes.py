import pytest
import torch

from selfcon.config import NUM_STAGES, ModelConfig
from selfcon.model import build_encoder
from selfcon.model.cost import encoder_parameters
from tune_jobs.checkpoints.network_sizes import NETWORKS, most_parameters, published_parameters

CASES: list[tuple[tuple[int, ...], str | int]] = [
    ((), "fc"),
    ((1, 2), "fc"),
    ((2,), "small"),
    ((1,), "same"),
    ((2,), "large"),
    ((1,), 3),
]


def config_of(backbone: str, width: int, exits: tuple[int, ...], depth: str | int) -> ModelConfig:
    fields = {"backbone": backbone, "width": width, "exit_stages": exits, "exit_depth": depth}
    return ModelConfig.model_validate(fields)


def test_every_backbone_that_is_no_resnet_has_its_sizes() -> None:
    assert {name for name in NUM_STAGES if not name.startswith("resnet")} == set(NETWORKS)


@pytest.mark.parametrize("case", CASES, ids=str)
@pytest.mark.parametrize("backbone", NETWORKS)
def test_parameters_are_those_of_the_network(backbone: str, case: tuple[tuple[int, ...], str | int]) -> None:
    with torch.device("meta"):
        encoder = build_encoder(config_of(backbone, 64, *case), image_size=96)
    assert published_parameters(backbone, *case) == encoder_parameters(encoder)


@pytest.mark.parametrize("width", [4, 8, 48, 100])
@pytest.mark.parametrize("backbone", NETWORKS)
def test_the_bound_holds_at_every_width(backbone: str, width: int) -> None:
    with torch.device("meta"):
        encoder = build_encoder(config_of(backbone, width, (1, 2), "same"), image_size=96)
    held = sum(parameter.numel() for parameter in encoder.parameters())
    assert held <= most_parameters(backbone, width, (1, 2), "same", 128)
