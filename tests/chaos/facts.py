"""State after a search, in the study, in MLflow and on the machine, as plain values."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import optuna
from mlflow import MlflowClient

from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from tune_jobs.errors import AlreadyRunningError
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.database.database import Database
from tune_jobs.study.database.lock import LauncherLock
from tune_jobs.study.records import ATTEMPT, TrialRecord
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.store import open_database, study_name
from tune_jobs.tracking.run_entries import SEARCH_TAG, TRIAL_TAG

from .search import SearchCommand
from .training import Saved


@dataclass(frozen=True)
class TrackedRun:
    """MLflow run; `trial` is None for the run of the search. `points` are (metric, step, value)."""

    trial: int | None
    status: str
    points: tuple[tuple[str, int, float], ...]


@dataclass(frozen=True, kw_only=True)
class Facts:
    """Input of the invariants. `undisturbed` are the records of the same search without kills."""

    num_trials: int
    records: Sequence[TrialRecord]
    attempts_ms: dict[tuple[int, int], int]  # when each (trial, attempt) was scheduled
    runs: Sequence[TrackedRun]
    versions: Sequence[int]  # the trial of each registered encoder
    saved: Sequence[Saved]
    orphaned: Sequence[str]
    undisturbed: Sequence[TrialRecord] | None = None


def records_of(command: SearchCommand) -> list[TrialRecord]:
    """Return the records of the study of a search."""
    space = _space(command)
    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    with _database(command) as database:
        return SearchStudy(database, space, data_digest=digest).records()


def attempts_of(command: SearchCommand) -> dict[tuple[int, int], int]:
    """Return when each attempt was scheduled, read from Optuna, because records only count attempts."""
    space = _space(command)
    with _database(command) as database:
        trials = optuna.load_study(study_name=study_name(space), storage=database.storage()).trials
    return {
        (trial.number, int(key.removeprefix(ATTEMPT))): value["started_ms"]
        for trial in trials
        for key, value in trial.user_attrs.items()
        if key.startswith(ATTEMPT)
    }


def runs_of(command: SearchCommand) -> list[TrackedRun]:
    """Return the runs of a search with every point of every metric."""
    client = MlflowClient(command.tracking_uri, command.tracking_uri)
    experiment = client.get_experiment_by_name(_space(command).tracking.experiment)
    assert experiment is not None
    runs = []
    for run in client.search_runs([experiment.experiment_id], max_results=10_000):
        points = [
            (point.key, point.step, point.value)
            for metric in run.data.metrics
            for point in client.get_metric_history(run.info.run_id, metric)
        ]
        trial = run.data.tags.get(TRIAL_TAG)
        runs.append(TrackedRun(None if trial is None else int(trial), run.info.status, tuple(points)))
    return runs


def versions_of(command: SearchCommand) -> list[int]:
    """Return the trials of a search whose encoders are registered, one for each version."""
    client = MlflowClient(command.tracking_uri, command.tracking_uri)
    model = _space(command).tracking.registered_model
    return [
        int(version.tags[TRIAL_TAG])
        for version in client.search_model_versions(f"name = '{model}'")
        if version.tags.get(SEARCH_TAG) == command.name
    ]


def held_lock(command: SearchCommand) -> list[str]:
    """Return the error of the launcher's lock if a process still holds it."""
    try:
        LauncherLock(command.search_folder / "launcher.lock").release()
    except AlreadyRunningError as error:
        return [str(error)]
    return []


def _space(command: SearchCommand) -> SearchSpace:
    return load_space(command.space, overrides=command.overrides, name=command.name)


@contextmanager
def _database(command: SearchCommand) -> Iterator[Database]:
    database = open_database(command.study_storage or f"sqlite:///{command.search_folder / 'study.db'}")
    try:
        yield database
    finally:
        database.close()
