from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from tune_jobs.search_folder import trial_folder
from tune_jobs.study.records import TrialRecord


def test_folders_of_trials_and_their_further_seeds_are_named_after_them(
    make_record: Callable[..., TrialRecord],
) -> None:
    trial, seed = make_record(7), replace(make_record(0), confirms=7, seed_index=1)
    assert trial_folder(Path("runs/x"), trial.name) == Path("runs/x/trials/0007")
    assert trial_folder(Path("runs/x"), seed.name) == Path("runs/x/trials/0007-seed-1")
    assert [trial.label, seed.label] == ["7", "7-seed-1"]
