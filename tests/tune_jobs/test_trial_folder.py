from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tune_jobs.records import TrialRecord
from tune_jobs.trial_folder import (
    checkpoint_path,
    checkpoints_folder,
    remove_old_checkpoints,
    trial_folder,
)


def test_a_trial_and_its_further_seeds_have_folders_by_their_names(
    make_record: Callable[..., TrialRecord],
) -> None:
    trial, seed = make_record(7), replace(make_record(0), confirms=7, seed_index=1)
    assert trial_folder(Path("runs/x"), trial.name) == Path("runs/x/trials/0007")
    assert trial_folder(Path("runs/x"), seed.name) == Path("runs/x/trials/0007-seed-1")
    assert [trial.label, seed.label] == ["7", "7-seed-1"]


def test_attempts_never_share_a_checkpoint() -> None:
    paths = {checkpoint_path(Path("t"), epoch=3, attempt=attempt) for attempt in (1, 2)}
    assert {path.name for path in paths} == {"0003-a1", "0003-a2"}
    assert checkpoint_path(Path("t"), epoch=3, step=17, attempt=2).name == "0003-s000017-a2"


def test_the_two_newest_epochs_stay(tmp_path: Path) -> None:
    for epoch, attempt in [(0, 1), (1, 1), (2, 1), (2, 2), (3, 2)]:
        checkpoint_path(tmp_path, epoch=epoch, attempt=attempt).mkdir(parents=True)
    remove_old_checkpoints(tmp_path, epoch=3)
    assert {path.name for path in checkpoints_folder(tmp_path).iterdir()} == {"0002-a1", "0002-a2", "0003-a2"}


def test_what_was_stopped_within_an_epoch_stays_until_that_epoch_is_over(tmp_path: Path) -> None:
    for epoch, step, attempt in [(1, 0, 1), (2, 0, 1), (2, 17, 1), (2, 20, 2)]:
        checkpoint_path(tmp_path, epoch=epoch, step=step, attempt=attempt).mkdir(parents=True)
    (checkpoints_folder(tmp_path) / "notes").mkdir()
    remove_old_checkpoints(tmp_path, epoch=2)  # reported again after a resume
    assert len(list(checkpoints_folder(tmp_path).iterdir())) == 5
    checkpoint_path(tmp_path, epoch=3, attempt=3).mkdir()
    remove_old_checkpoints(tmp_path, epoch=3)
    assert {path.name for path in checkpoints_folder(tmp_path).iterdir()} == {"0002-a1", "0003-a3", "notes"}
