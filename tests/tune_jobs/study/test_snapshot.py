from pathlib import Path

import pytest

from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.database.database import SQLiteDatabase
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.snapshot import read_snapshot, snapshot_of, study_names
from tune_jobs.study.store import StudyStore
from tune_jobs.study.trial_study import TrialStudy

SPACE = """
name: read
description: Two temperatures and an exit.
train: {optim: {epochs: 1}}
space:
  loss.temperature: {low: 0.05, high: 0.5}
  model.exit_stages: {choices: [[1], [2]]}
start:
  - {loss.temperature: 0.1, model.exit_stages: [1]}
  - {loss.temperature: 0.2, model.exit_stages: [2]}
objective: [{metric: val/top1, direction: maximize}, {metric: cost/seconds, direction: minimize}]
constraints: [{metric: cost/seconds, max: 9}]
search: {num_trials: 3}
confirm: {top_k: 1, seeds: 2}
"""
DATA = {"name": "digits", "num_images": {"train": 8, "validation": 4, "test": 2}, "num_classes": 10}


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(tmp_path / "space.yaml")


@pytest.fixture
def study(tmp_path: Path, space: SearchSpace) -> SearchStudy:
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="digest")
    study.set_num_trials(3)
    study.record_launch(data=DATA, environment={"selfcon.version.torch": "2"}, commit="c0ffee")
    return study


def run(study: TrialStudy, top1: float, seconds: float) -> None:
    given = study.next_attempt()
    assert given is not None
    for epoch in range(2):
        metrics = {"val/top1": top1, "cost/seconds": seconds}
        study.report(given.number, given.attempt, epoch, metrics)
    study.end_attempt(given.number, given.attempt)


def test_a_snapshot_needs_only_the_study(study: SearchStudy, tmp_path: Path) -> None:
    run(study, 0.8, 3.0)
    run(study, 0.9, 5.0)
    assert study.confirmation is not None
    run(study.confirmation, 0.7, 5.0)
    run(study, 0.99, 10.0)  # violates the constraint
    study.set_publication({"trial": 1, "metrics": {}})
    study.spend(30.0)
    study.record_end()
    found = read_snapshot(SQLiteDatabase(f"sqlite:///{tmp_path}/study.db"), "read/read")
    assert (found.experiment, found.name, found.description) == (
        "read",
        "read",
        "Two temperatures and an exit.",
    )
    assert [objective.metric for objective in found.objectives] == ["val/top1", "cost/seconds"]
    assert list(found.space) == ["loss.temperature", "model.exit_stages"]
    assert found.train == {"optim.epochs": 1}
    assert found.data is not None
    assert (found.data.digest, found.data.num_images["validation"]) == ("digest", 4)
    assert [record.number for record in found.complete] == [2, 1, 0]
    assert [record.number for record in found.ranked] == [1, 0]
    assert [record.number for record in found.front] == [0, 1]
    assert found.winner is not None
    assert found.winner.number == 1
    assert [(one.trial.number, one.values) for one in found.candidates] == [(1, [0.9, 0.7])]
    assert (found.num_trials, found.spent_s, found.is_over) == (3, 30.0, True)
    assert found.publication == {"trial": 1, "metrics": {}}
    assert found.records[0].parameters["model.exit_stages"] == (1,)
    (launch,) = found.launches
    assert (launch.number, launch.commit, dict(launch.environment)) == (
        1, "c0ffee", {"selfcon.version.torch": "2"},
    )  # fmt: skip
    assert launch.started_ms <= found.records[0].started_ms <= launch.last_seen_ms <= found.taken_ms


def test_the_launcher_and_a_reader_get_the_same_snapshot(study: SearchStudy, tmp_path: Path) -> None:
    run(study, 0.8, 3.0)
    read = read_snapshot(SQLiteDatabase(f"sqlite:///{tmp_path}/study.db"), "read/read")
    assert vars(study.snapshot()) | {"taken_ms": 0} == vars(read) | {"taken_ms": 0}


def test_each_launch_is_stored_with_its_environment(
    study: SearchStudy, space: SearchSpace, tmp_path: Path
) -> None:
    assert len(study.snapshot().launches) == 1
    again = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="digest")
    again.record_launch(data=DATA, environment={}, commit=None)
    assert [(launch.number, launch.commit) for launch in again.snapshot().launches] == [
        (1, "c0ffee"),
        (2, None),
    ]


def test_attempts_have_start_and_end_times(study: SearchStudy, tmp_path: Path) -> None:
    given = study.next_attempt()
    assert given is not None
    study.end_attempt(given.number, given.attempt, message="gone")
    study.next_attempt()
    (record,) = read_snapshot(SQLiteDatabase(f"sqlite:///{tmp_path}/study.db"), "read/read").records
    first, second = record.attempts_started_ms
    (end,) = record.attempt_ends
    assert end.ended_ms is not None
    assert first <= end.ended_ms <= second


def test_a_study_of_an_older_version_can_be_read(space: SearchSpace, tmp_path: Path) -> None:
    SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="digest")
    found = read_snapshot(SQLiteDatabase(f"sqlite:///{tmp_path}/study.db"), "read/read")
    assert (found.data, found.description, found.launches, found.confirm, found.winner) == (
        None,
        "",
        (),
        None,
        None,
    )


def test_reading_creates_no_study(tmp_path: Path) -> None:
    StudyStore(f"sqlite:///{tmp_path}/study.db", name="other", directions=["maximize"])
    database = SQLiteDatabase(f"sqlite:///{tmp_path}/study.db")
    with pytest.raises(BadInputError, match="expected a search that was started, got no study read/read"):
        read_snapshot(database, "read/read")
    with pytest.raises(BadInputError, match="expected a study of a search, got other, which has no space"):
        read_snapshot(database, "other")
    assert study_names(database) == ["other"]


def test_the_snapshot_includes_the_confirmation(study: SearchStudy) -> None:
    run(study, 0.8, 3.0)
    assert study.confirmation is not None
    assert snapshot_of(study.store, None).candidates == []
    run(study.confirmation, 0.7, 3.0)
    assert [record.label for record in study.snapshot().seeds] == ["0-seed-1"]
