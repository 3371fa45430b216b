"""A search in Optuna's storage: each method that writes is one transaction, and nothing is read twice.

One process holds a study, so what it has written it knows: reading takes no time, however many trials there
are. SQLite keeps its defaults, a rollback journal and full synchronisation: a write that returned survives a
kill and a power cut, the study is one file, on any file system, and a full disk undoes the write.
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

RUN_ATTRIBUTE = "mlflow_run:"  # Optuna lets no one write to an ended trial, so the study holds these


class StudyStore:
    """The trials and attributes of one study, made with its `directions` if there is none.

    `database` may be its URL; it is for a launcher to hold it. Without `directions` the study must be there.
    Each call raises `StorageError` where it cannot be used; what was not written is not known either. Any
    thread may read and remember runs; one thread writes the rest.
    """

    def __init__(
        self, database: Database | str, *, name: str, directions: Sequence[Direction] | None = None
    ) -> None:
        self.name = name
        self._lock = threading.Lock()
        self._database = open_database(database) if isinstance(database, str) else database
        self._storage = self._database.storage()
        with self._used():
            self._study = _study(self._storage, name, directions)
            self._id = self._study._study_id
            self._attributes = self._storage.get_study_user_attrs(self._id)
            trials = self._storage.get_all_trials(self._id, deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in trials}
        self._steps = {trial.number: set(trial.intermediate_values) for trial in trials}
        self._records = {trial.number: self._record_of(trial) for trial in trials}
        times = [epoch.timestamp_ms for record in self._records.values() for epoch in record.epochs]
        self._last_ms = max(times, default=0)

    # --- what is known -------------------------------------------------------------------------------------

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
        """Return every trial by number as Optuna has it, read anew."""
        with self._used():
            return self._storage.get_all_trials(self._id, deepcopy=False)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial as Optuna has it, read anew."""
        with self._used():
            return self._storage.get_trial(self._ids[number])

    # --- writes --------------------------------------------------------------------------------------------

    def set_attribute(self, name: str, value: Any) -> None:
        """Store an attribute of the study, a JSON value."""
        with self._used():
            self._storage.set_study_user_attr(self._id, name, value)
        self._attributes[name] = value

    def remember_run(self, number: int, run_id: str) -> None:
        """Store the MLflow run of a trial."""
        self.set_attribute(f"{RUN_ATTRIBUTE}{number}", run_id)
        self._change(number, mlflow_run=run_id)

    def add_trial(self, drawn: FrozenTrial, attributes: Mapping[str, Any], state: State) -> TrialRecord:
        """Store a drawn trial whole, as RUNNING or FAIL."""
        template = optuna.trial.create_trial(
            state=TrialState[state],
            params=drawn.params,
            distributions=drawn.distributions,
            user_attrs=dict(attributes),
            system_attrs=drawn.system_attrs,
        )
        with self._used():
            trial_id = self._storage.create_new_trial(self._id, template_trial=template)
        self._ids[drawn.number], self._steps[drawn.number] = trial_id, set()
        trial = self.trial(drawn.number)
        assert trial.number == drawn.number
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
        """Store why an attempt ended, and that it does now."""
        end = replace(end, ended_ms=now_ms())
        value = {"reason": str(end.reason), "message": end.message, "ended_ms": end.ended_ms}
        self._set_trial_attribute(number, attempt_end_key(end.attempt), value)
        self._change(number, attempt_ends=(*self.record(number).attempt_ends, end))

    def add_epoch(self, number: int, epoch: int, metrics: Mapping[str, float], *, attempt: int) -> None:
        """Store an epoch's metrics with the time, which is later than that of every epoch of the study."""
        # A clock that is set back, or two reports within a millisecond, must not change what was first.
        self._last_ms = max(now_ms(), self._last_ms + 1)
        entry = EpochRecord(epoch, dict(metrics), self._last_ms, attempt)
        self._set_trial_attribute(number, epoch_key(epoch), as_json(vars(entry)))
        self._change(number, epochs=(*self.record(number).epochs, entry))

    def set_confusion(self, number: int, confusion: Mapping[str, Any]) -> None:
        """Store the newest confusion matrix of a trial, with its epoch."""
        self._set_trial_attribute(number, CONFUSION, dict(confusion))
        self._change(number, confusion=dict(confusion))

    def add_intermediate_values(self, number: int, series: Sequence[tuple[int, float]]) -> None:
        """Give Optuna the values that it does not have yet, by epoch."""
        for epoch, value in series:
            if epoch not in self._steps[number]:
                with self._used():
                    self._storage.set_trial_intermediate_value(self._ids[number], epoch, value)
                self._steps[number].add(epoch)

    def add_violations(self, number: int, violations: Mapping[str, float]) -> None:
        """Store by how much constraints are broken, as `optuna.Trial.set_constraint` does."""
        for name, value in violations.items():
            if name not in self.record(number).violations:
                with self._used():
                    self._storage.set_trial_system_attr(self._ids[number], f"constraints:{name}", value)
                self._change(number, violations={**self.record(number).violations, name: value})

    def tell(
        self, number: int, state: State, *, values: Sequence[float] | None = None,
        reason: str | None = None, message: str | None = None,
    ) -> None:  # fmt: skip
        """Store how a trial ended: reason and message first, the state last."""
        for name, text in (("reason", reason), ("message", message)):
            if text is not None:
                self._set_trial_attribute(number, name, str(text))
        with self._used():
            self._study.tell(number, values, state=TrialState[state])
        trial = self.trial(number)
        with self._lock:
            self._records[number] = self._record_of(trial)

    def check(self) -> None:
        """Raise `StorageError` where the database is gone, replaced or no longer held."""
        self._database.check()

    @contextmanager
    def _used(self) -> Iterator[None]:
        self._database.check_before_use()
        with self._database.used():
            yield

    def _set_trial_attribute(self, number: int, name: str, value: Any) -> None:
        with self._used():
            self._storage.set_trial_user_attr(self._ids[number], name, value)

    def _change(self, number: int, **changes: Any) -> None:
        with self._lock:
            self._records[number] = replace(self._records[number], **changes)

    def _record_of(self, trial: FrozenTrial) -> TrialRecord:
        return record_of(trial, mlflow_run=self._attributes.get(f"{RUN_ATTRIBUTE}{trial.number}"))


def open_database(url: str) -> Database:
    """Return the database at a URL, sqlite:///FILE, postgresql://... or mysql://...; nothing is opened yet.

    Raises `BadInputError` where no file is named or the driver is not installed.
    """
    if url.startswith("sqlite"):
        return SQLiteDatabase(url)
    return MySQLDatabase(url) if url.startswith("mysql") else PostgreSQLDatabase(url)


def find_database(storage: str | None, folder: Path, *, flag: str) -> Database:
    """Return the database of a search that was started: at the URL `storage`, else in its folder.

    Raises `BadInputError` where there is none: opening it would make it.
    """
    database = database_of(storage, folder)
    if not database.exists():
        where = folder if storage is None else database.shown
        raise BadInputError(f"{flag}: expected a search that was started, got no study in {where}")
    return database


def database_of(storage: str | None, folder: Path) -> Database:
    """Return the database of the search with this folder: at the URL `storage`, else a file in the folder."""
    return open_database(storage or f"sqlite:///{folder / STUDY_FILE}")


def read_attributes(database: Database, name: str) -> Mapping[str, Any] | None:
    """Return the attributes of a study, None if it does not exist; nothing is created, no lock is needed."""
    if not database.exists():
        return None
    with database.used():
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
    sampler = optuna.samplers.RandomSampler()  # suggests nothing: see sampling.py
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
    """Return what the study holds of the start of an attempt, which is now."""
    return {"started_ms": now_ms(), "workers": num_workers}


def now_ms() -> int:
    """Return the time as studies hold it: milliseconds since 1970, UTC."""
    return time.time_ns() // 1_000_000
