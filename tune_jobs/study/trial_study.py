"""Life cycle of trials in an Optuna study: scheduled as attempts, recorded by epoch, finished.

Each step writes one fact, and every decision is a function of the recorded facts. The process may die between
any two writes; the next launch resumes from what is stored. Files of Ray Tune are never read back.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from selfcon.config import TrainConfig
from tune_jobs.space import SearchSpace
from tune_jobs.study.failures import as_numbers, failure_reason
from tune_jobs.study.records import AttemptEnd, Reason, State, TrialRecord
from tune_jobs.study.selection import violations
from tune_jobs.study.store import StudyStore


class Decision(Enum):
    """Decision about a trial after a report."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class Attempt:
    """Attempt of a trial on one group of workers; `name` and `attempt` are part of every path it writes.

    `number` is the trial number in its study, `last_epoch` the newest epoch in the study or -1. `num_workers`
    does not change during the attempt.
    """

    number: int
    attempt: int
    name: str
    config: TrainConfig
    last_epoch: int
    num_workers: int


class TrialStudy(ABC):
    """Schedules, records and finishes trials; subclasses create and prune them.

    Only the launcher that holds the lock may use it. Writes raise `StorageError` if the storage cannot be
    used.
    """

    def __init__(self, store: StudyStore, space: SearchSpace) -> None:
        self._store, self._space = store, space
        self._live: dict[int, int] = {}  # running trials: number -> attempt

    # --- implemented by subclasses -------------------------------------------------------------------------

    @property
    @abstractmethod
    def plan(self) -> str:
        """The planned trials, as text."""

    @property
    @abstractmethod
    def num_planned(self) -> int:
        """Number of trials planned so far."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether all planned trials have ended."""

    @abstractmethod
    def _start_trial(self, num_workers: int) -> int | None:
        """Store a new trial with its first attempt and return its number; None if there is none now."""

    @abstractmethod
    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        """Return why a running trial is pruned after its newest epoch, None if it continues."""

    @abstractmethod
    def _on_trial_end(self, record: TrialRecord) -> None:
        """Hook, called after a trial reached its final state."""

    # --- queries -------------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial by number."""
        return self._store.records()

    def record(self, number: int) -> TrialRecord:
        """Return one trial."""
        return self._store.record(number)

    @property
    def store(self) -> StudyStore:
        """The store of the trials."""
        return self._store

    @property
    def name(self) -> str:
        """The name of the study."""
        return self._store.name

    def remember_run(self, number: int, run_id: str) -> None:
        """Store the MLflow run of a trial."""
        self._store.remember_run(number, run_id)

    def spend(self, seconds: float) -> None:
        """Add wall-clock time of a launch."""
        self._store.set_attribute("seconds", self.spent_s + seconds)

    @property
    def spent_s(self) -> float:
        """Wall-clock time of all launches."""
        return float(self._store.attribute("seconds", 0.0))

    # --- scheduling ----------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `StorageError` if the database was removed, replaced, or is no longer locked."""
        self._store.check()

    @property
    def num_live(self) -> int:
        """Number of running trials."""
        return len(self._live)

    def next_attempt(self, num_workers: int = 1) -> Attempt | None:
        """Return the next attempt: of an unfinished trial, else of a new one; None if there is none now.

        It runs on `num_workers`. Raises `NoSuccessError` if the search cannot continue.
        """
        for record in self.records():
            is_unfinished = record.state == State.RUNNING and record.number not in self._live
            if is_unfinished and self.apply_outcome(record.number) is Decision.CONTINUE:
                return self._make_attempt(
                    record.number, self._store.start_attempt(record.number, num_workers)
                )
        number = self._start_trial(num_workers)
        return None if number is None else self._make_attempt(number, attempt=1)

    def _make_attempt(self, number: int, attempt: int) -> Attempt:
        record = self.record(number)
        assert record.config is not None
        self._live[number] = attempt
        config = TrainConfig.from_flat(record.config)
        return Attempt(number, attempt, record.name, config, record.last_epoch, record.workers[-1])

    # --- reports of attempts -------------------------------------------------------------------------------

    def report(
        self,
        number: int,
        attempt: int,
        epoch: int,
        metrics: Mapping[str, object],
        *,
        confusion: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Record an epoch and return the decision. Repeated epochs, and reports of other attempts, are
        ignored.

        The trial fails if a metric is not finite. `confusion` has the JSON values of the confusion matrix;
        only the newest is stored.
        """
        record = self.record(number)
        if self._live.get(number) != attempt or record.state != State.RUNNING:
            return Decision.STOP
        values = as_numbers(metrics)
        non_finite = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if non_finite is not None:
            message = f"{non_finite} is {metrics[non_finite]!r} in epoch {epoch}"
            self._store.add_attempt_end(number, AttemptEnd(attempt, Reason.NON_FINITE, message))
        elif epoch > record.last_epoch:
            if confusion is not None:  # first, because the trial may end with this epoch
                self._store.set_confusion(number, {"epoch": epoch, **confusion})
            self._store.add_epoch(number, epoch, values, attempt=attempt)
        return self.apply_outcome(number)

    def apply_outcome(self, number: int) -> Decision:
        """Finish a running trial if its records decide so, and return the decision. Idempotent."""
        record = self.record(number)
        if record.state != State.RUNNING:
            return Decision.STOP
        failure = failure_reason(record)
        if failure is not None:
            self._finish(number, State.FAIL, Reason(failure.reason), failure.message)
            return Decision.STOP
        if len(self._space.objectives) == 1:  # Optuna allows none for several objectives
            self._store.add_intermediate_values(number, record.series(self._space.objective.metric))
        if record.last_epoch >= record.total_epochs:
            self._complete(record)
            return Decision.STOP  # its training is done; stopping the workers is faster than waiting
        reason = self._prune_reason(record)
        if reason is None:
            return Decision.CONTINUE
        self._finish(number, State.PRUNED, reason)
        return Decision.STOP

    def fail_attempt(self, number: int, attempt: int, reason: Reason, message: str) -> None:
        """Record why an attempt failed; its processes may still be running.

        The trial is retried after the attempt is over, unless too many attempts failed without a new epoch,
        or a retry would repeat the error.
        """
        record = self.record(number)
        is_recorded = any(end.attempt == attempt for end in record.attempt_ends)
        if self._live.get(number) == attempt and record.state == State.RUNNING and not is_recorded:
            self._store.add_attempt_end(number, AttemptEnd(attempt, reason, message))
            self.apply_outcome(number)

    def end_attempt(
        self, number: int, attempt: int, reason: Reason | None = None, message: str | None = None
    ) -> None:
        """Record that an attempt ended. Without a recorded reason, its training returned early."""
        if self._live.get(number) != attempt:
            return
        try:
            message = message or "training ended before its last epoch"
            self.fail_attempt(number, attempt, reason or Reason.ERROR, message)
        finally:
            del self._live[number]

    def interrupt_attempt(self, number: int, attempt: int) -> None:
        """Record that the launcher stopped an attempt; the trial will be rescheduled."""
        if self._live.get(number) == attempt:
            del self._live[number]

    # --- final states --------------------------------------------------------------------------------------

    def _complete(self, record: TrialRecord) -> None:
        """Complete a trial with the last value of each objective; it fails if one, or the metric of a
        constraint, is missing."""
        series = {o.metric: record.series(o.metric) for o in self._space.objectives}
        violated = violations(record, self._space.constraints)
        missing = [
            name for name, found in (*series.items(), *violated.items()) if found is None or found == []
        ]
        if missing:
            self._finish(
                record.number, State.FAIL, Reason.ERROR, f"{missing[0]}: the metric was never reported"
            )
        else:
            values = [found[-1][1] for found in series.values()]
            self._finish(record.number, State.COMPLETE, None, None, values)

    def _finish(
        self, number: int, state: State, reason: Reason | None = None, message: str | None = None,
        values: list[float] | None = None,
    ) -> None:  # fmt: skip
        if state != State.FAIL:
            found = violations(self.record(number), self._space.constraints)
            self._store.add_violations(number, {n: v for n, v in found.items() if v is not None})
        self._store.tell(number, state, values=values, reason=reason, message=message)
        self._on_trial_end(self.record(number))
