import json
from pathlib import Path

import pytest
import torch

from selfcon.model import build_encoder
from tests.project import GOLDEN
from tune_jobs.checkpoints.size import encoder_parameters, most_checkpoint_bytes
from tune_jobs.space import SearchSpace, load_space

ROWS = json.loads((GOLDEN / "architectures.json").read_text())["rows"]
RESNETS = [row for row in ROWS if row["arch"].startswith("resnet")]
STEM_KERNELS = {"cifar": 3, "imagenet": 7}

TEXT = """\
train: {{data: {{image_size: {image_size}}}, optim: {{precision: {precision}}}}}
space:
  model.width: {{low: 4, high: {width}}}
  model.exit_stages: {{choices: [[], [3], {exit_stages}]}}
  model.exit_depth: {{choices: [fc, {exit_depth}]}}
"""


def space(folder: Path, **values: object) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(TEXT.format(**values))
    return load_space(path)


@pytest.mark.parametrize(
    "row", RESNETS, ids=lambda row: f"{row['arch']}-{row['image']}-{row['exit']}-{row['depth']}"
)
def test_parameters_are_those_of_the_published_networks(row: dict[str, object]) -> None:
    exits = [int(str(row["exit"]))] if row["exit"] else []
    depth = str(row["depth"])
    counted = encoder_parameters(
        str(row["arch"]), 64, exits, depth, stem_kernel=STEM_KERNELS[str(row["stem"])]
    )
    assert counted == row["encoder_parameters"]


@pytest.mark.parametrize("precision", ["fp32", "fp64"])
@pytest.mark.parametrize("image_size", [16, 96])
@pytest.mark.parametrize("exit_depth", ["small", 3])
@pytest.mark.parametrize("width", [4, 16])
def test_the_bound_is_above_what_a_checkpoint_holds_and_near_it(
    tmp_path: Path, width: int, exit_depth: str | int, image_size: int, precision: str
) -> None:
    values = {"width": width, "exit_depth": exit_depth, "image_size": image_size, "precision": precision}
    searched = space(tmp_path, exit_stages=[1, 2], **values)
    largest = searched.resolve(
        {"model.width": width, "model.exit_stages": (1, 2), "model.exit_depth": exit_depth}
    )
    encoder = build_encoder(largest.model, image_size=image_size)
    encoder.to(torch.float64 if precision == "fp64" else torch.float32)
    held = sum(tensor.nbytes for tensor in encoder.state_dict().values())
    held += sum(parameter.nbytes for parameter in encoder.parameters())  # their momentum
    assert held + 20_000 < most_checkpoint_bytes(searched) < 1.2 * held + 120_000
