"""Runs that are killed, stopped or resumed with fewer ranks: real processes, signals and checkpoints."""

import math
import random
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcon.checkpoints.folder import load_checkpoint, newest_valid, order_of_checkpoint
from selfcon.collapse import collapsed_loss_of
from selfcon.config import TrainConfig
from tests.selfcon.fit_worker import run_ranks

TINY: dict[str, Any] = {
    "data.image_size": 8,
    "data.validation_fraction": 0.2,
    "model.width": 4,
    "optim.epochs": 3,
    "optim.global_batch_size": 64,
    "optim.learning_rate": 0.1,
    "evaluate.probe_epochs": 10,
}
STEPS_PER_EPOCH = 17  # 1,150 training images
NUM_STEPS = 3 * STEPS_PER_EPOCH
# Measurements of the machine.
VOLATILE = {"cost/seconds", "cost/accelerator_hours", "cost/images_per_second", "cost/peak_memory_mb"}
SEED = 20


def without_volatile(reports: list[dict[str, float]]) -> list[dict[str, float]]:
    return [{name: value for name, value in item.items() if name not in VOLATILE} for item in reports]


def assert_same_final_state(checkpoints: Path, expected: Path, *, config: TrainConfig) -> None:
    """Compare the newest checkpoints: weights and momentum bit by bit, the history without times."""
    folders = newest_valid(checkpoints), newest_valid(expected)
    found, reference = (load_checkpoint(folder, config=config) for folder in folders if folder)
    for ours, theirs in ((found.model, reference.model), (found.optimizer, reference.optimizer)):
        assert ours.keys() == theirs.keys()
        assert all(torch.equal(tensor, theirs[name]) for name, tensor in ours.items())
    assert without_volatile(found.history) == without_volatile(reference.history)
    assert (found.epoch, found.losses, found.scaler) == (reference.epoch, [], reference.scaler)


def loss_curve(ranks: list[dict[str, Any]]) -> list[float]:
    """Return the loss of every step: the mean of the shares of the ranks."""
    return [
        math.fsum(shares) / len(shares) for shares in zip(*(rank["losses"] for rank in ranks), strict=True)
    ]


@pytest.mark.parametrize("world_size", [1, 2])
def test_run_killed_at_a_random_step_and_resumed_is_bit_identical(
    tmp_path: Path, world_size: int, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig.from_flat(TINY)
    draw = random.Random(SEED + world_size)
    killed, step = draw.randrange(world_size), draw.randrange(STEPS_PER_EPOCH + 1, NUM_STEPS + 1)
    with capsys.disabled():
        print(f"\nseed {SEED + world_size}: rank {killed} of {world_size} is killed in step {step}")
    run_ranks(tmp_path, config, world_size=world_size, checkpoints=tmp_path / "undisturbed")
    codes = [-signal.SIGKILL if rank == killed else 0 for rank in range(world_size)]
    survivors = run_ranks(
        tmp_path,
        config,
        world_size=world_size,
        checkpoints=tmp_path / "c",
        kill=[killed, step],
        exit_codes=codes,
    )
    assert all("error" in rank for rank in survivors)
    resumed = run_ranks(tmp_path, config, world_size=world_size, checkpoints=tmp_path / "c", attempt=1)
    finished = (step - 1) // STEPS_PER_EPOCH
    assert {rank["resumed_from"] for rank in resumed} == {f"{finished:04d}-a0"}
    assert all(len(rank["losses"]) == NUM_STEPS - finished * STEPS_PER_EPOCH for rank in resumed)
    assert_same_final_state(tmp_path / "c", tmp_path / "undisturbed", config=config)


@pytest.mark.parametrize(("world_size", "asking", "precision"), [(1, 0, "fp16"), (2, 1, "fp32")])
def test_run_stopped_within_an_epoch_resumes_from_that_step_bit_identically(
    tmp_path: Path, world_size: int, asking: int, precision: str
) -> None:
    config = TrainConfig.from_flat(TINY | {"optim.precision": precision, "optim.epochs": 2})
    undisturbed = run_ranks(tmp_path, config, world_size=world_size, checkpoints=tmp_path / "undisturbed")
    stopped, resumed = (
        run_ranks(
            tmp_path,
            config,
            world_size=world_size,
            checkpoints=tmp_path / "c",
            attempt=attempt,
            stop=[asking, STEPS_PER_EPOCH + 6],
        )
        for attempt in (0, 1)
    )
    assert {rank["stopped"] for rank in stopped} == {"stopped on request after step 6 of epoch 2"}
    assert {rank["resumed_from"] for rank in resumed} == {"0001-s000006-a0"}
    for whole, first, second in zip(undisturbed, stopped, resumed, strict=True):
        # No step is repeated or skipped.
        assert first["losses"] + second["losses"] == whole["losses"]
        assert without_volatile(first["reports"]) == without_volatile(whole["reports"][:2])
        assert without_volatile(second["reports"]) == without_volatile(whole["reports"][1:])
        assert second["weights"] == whole["weights"]
    assert_same_final_state(tmp_path / "c", tmp_path / "undisturbed", config=config)


@pytest.mark.parametrize("step", [1, STEPS_PER_EPOCH])
def test_run_can_stop_after_the_first_and_the_last_step_of_an_epoch(tmp_path: Path, step: int) -> None:
    config = TrainConfig.from_flat(TINY | {"optim.epochs": 1})
    (whole,) = run_ranks(tmp_path, config, world_size=1)
    (stopped,) = run_ranks(tmp_path, config, world_size=1, checkpoints=tmp_path / "c", stop=[0, step])
    (resumed,) = run_ranks(tmp_path, config, world_size=1, checkpoints=tmp_path / "c", attempt=1)
    assert stopped["losses"] + resumed["losses"] == whole["losses"]
    assert without_volatile(resumed["reports"]) == without_volatile(whole["reports"])
    assert resumed["weights"] == whole["weights"]


@pytest.mark.parametrize("world_size", [1, 2])
def test_after_a_kill_during_evaluation_only_the_evaluation_is_repeated(
    tmp_path: Path, world_size: int
) -> None:
    config = TrainConfig.from_flat(TINY | {"optim.epochs": 2})
    ranks = partial(run_ranks, tmp_path, config, world_size=world_size)
    whole = ranks(checkpoints=tmp_path / "undisturbed")
    codes = [-signal.SIGKILL, *[0] * (world_size - 1)]
    ranks(checkpoints=tmp_path / "c", stop_in_evaluation=1, exit_codes=codes)
    resumed = ranks(checkpoints=tmp_path / "c", attempt=1)
    assert {rank["resumed_from"] for rank in resumed} == {f"0000-s{STEPS_PER_EPOCH:06d}-a0"}
    for first, second in zip(whole, resumed, strict=True):
        assert second["losses"] == first["losses"][STEPS_PER_EPOCH:]
        assert all(report["cost/images_per_second"] > 0 for report in second["reports"][1:])
        assert without_volatile(second["reports"]) == without_volatile(first["reports"])
    assert_same_final_state(tmp_path / "c", tmp_path / "undisturbed", config=config)


# The loss falls clearly below that of a collapsed network, for which the comparison would be trivial.
LEARNING: dict[str, dict[str, Any]] = {
    "group": {"data.image_size": 16, "loss.use_labels": False},
    "frozen": {
        "model.width": 8,
        "data.augmentation": "weak",
        "optim.global_batch_size": 32,
        "optim.learning_rate": 0.02,
    },
}


@pytest.mark.soak
@pytest.mark.parametrize(("normalization", "share"), [("group", 0.85), ("frozen", 0.97)])
def test_run_resumed_on_two_of_four_ranks_has_the_same_loss_curve(
    tmp_path: Path, normalization: str, share: float, capsys: pytest.CaptureFixture[str]
) -> None:
    config = TrainConfig.from_flat(
        TINY
        | {"optim.precision": "fp64", "model.normalization": normalization, "evaluate.every_epochs": 3}
        | LEARNING[normalization]
    )
    expected = loss_curve(run_ranks(tmp_path, config, world_size=4))
    steps_per_epoch = len(expected) // 3
    before = run_ranks(
        tmp_path,
        config,
        world_size=4,
        checkpoints=tmp_path / "c",
        kill=[3, steps_per_epoch + 5],
        exit_codes=[0, 0, 0, -signal.SIGKILL],
    )
    newest = newest_valid(tmp_path / "c")
    assert newest is not None
    assert order_of_checkpoint(newest.name) == (1, 0, 0)
    after = run_ranks(tmp_path, config, world_size=2, checkpoints=tmp_path / "c", attempt=1)
    in_first = before[0]["losses"][:steps_per_epoch]
    first_shares = [rank["losses"][:steps_per_epoch] for rank in before]
    assert len(in_first) == steps_per_epoch
    # The shares of the killed rank are lost, but their sum over the ranks is in the checkpoint.
    first_epoch = load_checkpoint(newest, config=config).history[1]["train/loss"]
    assert len(first_shares) == 3
    assert abs(first_epoch - math.fsum(expected[:steps_per_epoch]) / steps_per_epoch) < 1e-9
    difference = max(abs(a - b) for a, b in zip(loss_curve(after), expected[steps_per_epoch:], strict=True))
    with capsys.disabled():
        print(f"\n{normalization}: four ranks, then two, against four: {difference:.1e} at most")
    assert difference < 1e-9
    assert math.fsum(expected[-10:]) / 10 < share * collapsed_loss_of(config)
