"""Study in Optuna's storage: each writing method is one transaction, and reads are cached.

Only one process writes a study, so its cache is always up to date; reads are fast for any number of trials.
SQLite uses its defaults, a rollback journal and full synchronisation: completed writes survive a kill or a
power failure, the study is a single file on any file system, and a full disk rolls the write back.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.errors import BadInputError
from tune_jobs.search_folder import STUDY_FILE
from tune_jobs.space import SearchSpace
from tune_jobs.study.database.database import Database, SQLiteDatabase
from tune_jobs.study.database.mysql import MySQLDatabase
from tune_jobs.study.database.postgresql import PostgreSQLDatabase
from tune_jobs.study.records import (
    CONFUSION,
    AttemptEnd,
    Direction,
    EpochRecord,
    State,
    TrialRecord,
    as_json,
    attempt_end_key,
    attempt_key,
    epoch_key,
    record_of,
)

RUN_ATTRIBUTE = "mlflow_run:"  # of the study, as Optuna allows no writes to a finished trial


class StudyStore:
    """Trials and attributes of one study, created with `directions` if it does not exist.

    `database` may be its URL; a launcher must hold its lock. Without `directions` the study must exist. Each
    call raises `StorageError` if the storage cannot be used, and leaves the cache unchanged. Any thread may
    read and call `remember_run`; one thread makes all other writes.
    """

    def __init__(
        self, database: Database | str, *, name: str, directions: Sequence[Direction] | None = None
    ) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._database = open_database(database) if isinstance(database, str) else database
        self._storage = self._database.storage()
        with self._access():
            self._study = _study(self._storage, name, directions)
            self._id = self._study._study_id
            self._attributes = self._storage.get_study_user_attrs(self._id)
            trials = self._storage.get_all_trials(self._id, deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in trials}
        self._steps = {trial.number: set(trial.intermediate_values) for trial in trials}
        self._records = {trial.number: self._record_of(trial) for trial in trials}
        times = [epoch.timestamp_ms for record in self._records.values() for epoch in record.epochs]
        self._last_ms = max(times, default=0)

    # --- queries -------------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial by number."""
        return list(self._records.values())

    def record(self, number: int) -> TrialRecord:
        """Return one trial."""
        return self._records[number]

    def attribute(self, name: str, default: Any = None) -> Any:
        """Return an attribute of the study."""
        return self._attributes.get(name, default)

    def attributes(self) -> Mapping[str, Any]:
        """Return every attribute of the study by its name."""
        return dict(self._attributes)

    def trials(self) -> list[FrozenTrial]:
        """Return all Optuna trials by number, read from the storage."""
        with self._access():
            return self._storage.get_all_trials(self._id, deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """Return one Optuna trial, read from the storage."""
        with self._access():
            return self._storage.get_trial(self._ids[number])

    # --- writes --------------------------------------------------------------------------------------------

    def set_attribute(self, name: str, value: Any) -> None:
        """Store an attribute of the study, a JSON value."""
        with self._access():
            self._storage.set_study_user_attr(self._id, name, value)
        self._attributes[name] = value

    def remember_run(self, number: int, run_id: str) -> None:
        """Store the MLflow run of a trial."""
        self.set_attribute(f"{RUN_ATTRIBUTE}{number}", run_id)
        self._change(number, mlflow_run=run_id)

    def add_trial(self, sampled: FrozenTrial, attributes: Mapping[str, Any], state: State) -> TrialRecord:
        """Store a sampled trial as RUNNING or FAIL."""
        template = optuna.trial.create_trial(
            state=TrialState[state],
            params=sampled.params,
            distributions=sampled.distributions,
            user_attrs=dict(attributes),
            system_attrs=sampled.system_attrs,
        )
        with self._access():
            trial_id = self._storage.create_new_trial(self._id, template_trial=template)
        self._ids[sampled.number], self._steps[sampled.number] = trial_id, set()
        trial = self.trial(sampled.number)
        assert trial.number == sampled.number
        self._records[trial.number] = self._record_of(trial)
        return self._records[trial.number]

    def start_attempt(self, number: int, num_workers: int = 1) -> int:
        """Store the start of another attempt of a trial, on `num_workers`, and return its number."""
        record, start = self.record(number), attempt_start(num_workers)
        attempt = record.attempts + 1
        self._set_trial_attribute(number, attempt_key(attempt), start)
        self._change(
            number,
            attempts=attempt,
            workers=(*record.workers, num_workers),
            attempts_started_ms=(*record.attempts_started_ms, start["started_ms"]),
        )
        return attempt

    def add_attempt_end(self, number: int, end: AttemptEnd) -> None:
        """Store the reason and the time of the end of an attempt."""
        end = replace(end, ended_ms=now_ms())
        value = {"reason": str(end.reason), "message": end.message, "ended_ms": end.ended_ms}
        self._set_trial_attribute(number, attempt_end_key(end.attempt), value)
        self._change(number, attempt_ends=(*self.record(number).attempt_ends, end))

    def add_epoch(self, number: int, epoch: int, metrics: Mapping[str, float], *, attempt: int) -> None:
        """Store the metrics of an epoch with a timestamp later than those of all other epochs of the
        study."""
        # Keeps the order of reports if the clock is set back, or if two arrive within a millisecond.
        self._last_ms = max(now_ms(), self._last_ms + 1)
        entry = EpochRecord(epoch, dict(metrics), self._last_ms, attempt)
        self._set_trial_attribute(number, epoch_key(epoch), as_json(vars(entry)))
        self._change(number, epochs=(*self.record(number).epochs, entry))

    def set_confusion(self, number: int, confusion: Mapping[str, Any]) -> None:
        """Store the newest confusion matrix of a trial, with its epoch."""
        self._set_trial_attribute(number, CONFUSION, dict(confusion))
        self._change(number, confusion=dict(confusion))

    def add_intermediate_values(self, number: int, series: Sequence[tuple[int, float]]) -> None:
        """Store the missing Optuna intermediate values, by epoch."""
        for epoch, value in series:
            if epoch not in self._steps[number]:
                with self._access():
                    self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)
                self._steps[number].add(epoch)

    def add_violations(self, number: int, violations: Mapping[str, float]) -> None:
        """Store the violations of constraints, like `optuna.Trial.set_constraint`."""
        for name, value in violations.items():
            if name not in self.record(number).violations:
                with self._access():
                    self._storage.set_trial_system_attr(self._ids[number], f"constraints:{name}", value)
                self._change(number, violations={**self.record(number).violations, name: value})

    def tell(
        self, number: int, state: State, *, values: Sequence[float] | None = None,
        reason: str | None = None, message: str | None = None,
    ) -> None:  # fmt: skip
        """Finish a trial: store the reason and the message first, the state last."""
        for name, text in (("reason", reason), ("message", message)):
            if text is not None:
                self._set_trial_attribute(number, name, str(text))
        with self._access():
            self._study.tell(number, values, state=TrialState[state])
        trial = self.trial(number)
        with self._lock:
            self._records[number] = self._record_of(trial)

    def check(self) -> None:
        """Raise `StorageError` if the database was removed, replaced, or is no longer locked."""
        self._database.check()

    @contextmanager
    def _access(self) -> Iterator[None]:
        self._database.check_before_use()
        with self._database.storage_errors():
            yield

    def _set_trial_attribute(self, number: int, name: str, value: Any) -> None:
        with self._access():
            self._storage.set_trial_user_attr(self._ids[number], name, value)

    def _change(self, number: int, **changes: Any) -> None:
        with self._lock:
            self._records[number] = replace(self._records[number], **changes)

    def _record_of(self, trial: FrozenTrial) -> TrialRecord:
        return record_of(trial, mlflow_run=self._attributes.get(f"{RUN_ATTRIBUTE}{trial.number}"))


def open_database(url: str) -> Database:
    """Return the database of a URL sqlite:///FILE, postgresql://... or mysql://..., without opening it.

    Raises `BadInputError` if the URL has no file or the driver is not installed.
    """
    if url.startswith("sqlite"):
        return SQLiteDatabase(url)
    return MySQLDatabase(url) if url.startswith("mysql") else PostgreSQLDatabase(url)


def find_database(storage: str | None, folder: Path, *, flag: str) -> Database:
    """Return the database of an existing search: at the URL `storage`, else in its folder.

    Raises `BadInputError` if there is none, because opening it would create it.
    """
    database = database_of(storage, folder)
    if not database.exists():
        where = folder if storage is None else database.shown
        raise BadInputError(f"{flag}: expected a search that was started, got no study in {where}")
    return database


def database_of(storage: str | None, folder: Path) -> Database:
    """Return the database of the search in this folder: at the URL `storage`, else a file in the folder."""
    return open_database(storage or f"sqlite:///{folder / STUDY_FILE}")


def read_attributes(database: Database, name: str) -> Mapping[str, Any] | None:
    """Return the attributes of a study, None if it does not exist. Creates nothing and needs no lock."""
    if not database.exists():
        return None
    with database.storage_errors():
        storage = database.storage()
        try:
            study_id = storage.get_study_id_from_name(name)
        except KeyError:
            return None
        return dict(storage.get_study_user_attrs(study_id))


def study_name(space: SearchSpace) -> str:
    """Return the name of a search in its database: `<experiment>/<name>`."""
    return f"{space.tracking.experiment}/{space.name}"


def _study(
    storage: optuna.storages.RDBStorage, name: str, directions: Sequence[Direction] | None
) -> optuna.Study:
    sampler = optuna.samplers.RandomSampler()  # not used: see sampling.py
    if directions is None:
        return optuna.load_study(storage=storage, study_name=name, sampler=sampler)
    return optuna.create_study(
        storage=storage,
        study_name=name,
        directions=list(directions),
        load_if_exists=True,
        sampler=sampler,
    )


def attempt_start(num_workers: int = 1) -> dict[str, int]:
    """Return the attribute value of an attempt that starts now."""
    return {"started_ms": now_ms(), "workers": num_workers}


def now_ms() -> int:
    """Return the current time as in studies: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
