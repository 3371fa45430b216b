from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError, ConfigError
from selfcon.export import save_backbone
from selfcon.run import start_run


def config_with(**changes: Any) -> TrainConfig:
    fields = {"model.width": 4, "model.projection_dim": 6, "model.exit_depth": "small"}
    return TrainConfig.from_flat(fields | {name.replace("__", "."): value for name, value in changes.items()})


def test_run_starts_from_the_configured_weights(tmp_path: Path) -> None:
    path = tmp_path / "weights" / "backbone.safetensors"
    trained = start_run(config_with(seed=1)).encoder
    save_backbone(path, trained)
    fresh, found = (
        start_run(config_with(**change)).encoder for change in ({}, {"model__weights": str(path)})
    )
    for name, value in found.state_dict().items():
        expected = {True: trained, False: fresh}[name.startswith("backbone.")]
        assert torch.equal(value, expected.state_dict()[name])


def test_unreadable_weights_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "nothing.pth"
    with pytest.raises(ConfigError) as refused:
        start_run(config_with(model__weights=str(path)))
    expected = f"expected a file that can be read, got {path}: No such file or directory"
    assert str(refused.value) == f"model.weights: {expected}"


def test_state_of_another_network_is_rejected() -> None:
    run = start_run(config_with())
    state = run.state()
    weight = "backbone.conv1.weight"
    damaged = {name: value for name, value in state.model.items() if name != weight} | {"x": torch.zeros(1)}
    with pytest.raises(CheckpointError) as refused:
        run.restore(replace(state, model=damaged))
    assert str(refused.value) == f"the checkpoint: of another network: missing: {weight}; unexpected: x"


def test_resumed_run_does_not_read_the_initial_weights(tmp_path: Path) -> None:
    config = config_with(model__weights=str(tmp_path / "gone.pth"))
    assert start_run(config, resumed=True).config == config


@pytest.mark.parametrize(
    ("momentum", "difference"),
    [
        ({"backbone.conv1.weight": None}, "missing: backbone.conv1.weight"),
        ({"elsewhere": torch.zeros(1)}, "unexpected: elsewhere"),
        ({"backbone.bn1.bias": torch.zeros(3)}, "of another shape: backbone.bn1.bias [3] for [4]"),
    ],
)
def test_momentum_of_other_parameters_is_rejected(
    momentum: dict[str, torch.Tensor | None], difference: str
) -> None:
    run = start_run(config_with())
    own = {name: torch.ones_like(value) for name, value in run.encoder.named_parameters()}
    run.restore(replace(run.state(), optimizer=own))
    changed = {name: value for name, value in (own | momentum).items() if value is not None}
    with pytest.raises(CheckpointError) as refused:
        run.restore(replace(run.state(), optimizer=changed))
    assert str(refused.value) == f"the checkpoint: of another optimiser: {difference}"
