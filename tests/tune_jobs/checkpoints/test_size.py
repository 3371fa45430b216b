from pathlib import Path

import pytest
import torch

from selfcon.config import NUM_STAGES, ModelConfig
from selfcon.model import build_encoder
from selfcon.model.cost import encoder_parameters
from tune_jobs.checkpoints.size import (
    BACKBONES,
    PUBLISHED_WIDTH,
    max_checkpoint_bytes,
    max_parameters,
)
from tune_jobs.space import SearchSpace, load_space

TEXT = """\
train: {{data: {{image_size: {image_size}}}, optim: {{precision: {precision}}}}}
space:
  model.width: {{low: 4, high: {width}}}
  model.exit_stages: {{choices: [[], [3], [1, 2]]}}
  model.exit_depth: {{choices: [fc, {exit_depth}]}}
"""
EXITS: list[tuple[tuple[int, ...], str | int]] = [
    ((), "fc"),
    ((1, 2), "fc"),
    ((1,), "small"),
    ((2,), "small"),
    ((1,), "same"),
    ((1, 2), "same"),
    ((1,), "large"),
    ((1,), 1),
    ((1,), 3),
    ((1,), 8),
]


def space(folder: Path, **values: object) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(TEXT.format(**values))
    return load_space(path)


def test_the_table_has_the_parameters_and_features_of_every_backbone() -> None:
    counted = {}
    for backbone in NUM_STAGES:
        with torch.device("meta"):
            model = ModelConfig.model_validate({"backbone": backbone, "exit_stages": ()})
            encoder = build_encoder(model, image_size=96)
        counted[backbone] = (encoder_parameters(encoder), encoder.feature_dim)
    assert counted == {name: size[:2] for name, size in BACKBONES.items()}


@pytest.mark.parametrize("width", [4, 16, 64, 100])
@pytest.mark.parametrize("backbone", NUM_STAGES)
def test_the_bound_is_one_to_two_times_the_parameters_of_every_network(backbone: str, width: int) -> None:
    last = NUM_STAGES[backbone] - 1
    some = EXITS if width == PUBLISHED_WIDTH else [((), "fc"), ((1, 2), "same")]
    for exits, depth in [*some, ((last,), "fc")]:
        fields = {"backbone": backbone, "width": width, "exit_stages": exits, "exit_depth": depth}
        with torch.device("meta"):
            encoder = build_encoder(ModelConfig.model_validate(fields), image_size=96)
        actual = sum(parameter.numel() for parameter in encoder.parameters())
        bound = max_parameters(backbone, width, exits, depth, 128)
        assert actual <= bound <= 2 * actual, (exits, depth, bound / actual)


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("image_size", [16, 96])
@pytest.mark.parametrize("exit_depth", ["small", 3])
@pytest.mark.parametrize("width", [4, 16])
def test_the_bound_is_one_to_about_two_times_the_size_of_a_checkpoint(
    tmp_path: Path, width: int, exit_depth: str | int, image_size: int, precision: str
) -> None:
    values = {"width": width, "exit_depth": exit_depth, "image_size": image_size, "precision": precision}
    searched = space(tmp_path, **values)
    largest = searched.resolve(
        {"model.width": width, "model.exit_stages": (1, 2), "model.exit_depth": exit_depth}
    )
    encoder = build_encoder(largest.model, image_size=image_size)
    encoder.to(torch.float64 if precision == "fp64" else torch.float32)
    actual = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    actual += sum(parameter.nbytes for parameter in encoder.parameters())  # momentum
    assert actual + 20_000 < max_checkpoint_bytes(searched) < 2 * actual + 120_000
