"""A set of trials in an Optuna study: handed out to attempts, reporting epochs, told how they ended.

Each step is one write of a fact, and what follows from the facts is decided from them alone; a process may
die between any two writes, and the next launch goes on from what is written. What Ray keeps of a search is
never read back.
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
    """What a trial does after a report."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class Attempt:
    """A trial given to a worker group: name and attempt are part of every path it writes.

    `number` is the trial's in its study, `last_epoch` the newest that the study has, -1 before the first;
    the attempt has `num_workers` to its end.
    """

    number: int
    attempt: int
    name: str
    config: TrainConfig
    last_epoch: int
    num_workers: int


class TrialStudy(ABC):
    """Hands out, records and tells trials; which trials there are, and which end early, is the subclass's.

    One process at a time may hold it (the launcher's lock). Its writes raise `StorageError` where the storage
    cannot be used.
    """

    def __init__(self, store: StudyStore, space: SearchSpace) -> None:
        self._store, self._space = store, space
        self._live: dict[int, int] = {}  # trials in training now: number -> attempt

    # --- what differs --------------------------------------------------------------------------------------

    @property
    @abstractmethod
    def plan(self) -> str:
        """What there is to train in all, in words."""

    @property
    @abstractmethod
    def num_planned(self) -> int:
        """How many of its trials there are to be in all, as far as that is known."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """Whether every trial there is to be has ended."""

    @abstractmethod
    def _begin(self, num_workers: int) -> int | None:
        """Store a new trial with its first attempt and return its number; None where there is none now."""

    @abstractmethod
    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        """Return why a running trial is to end after its newest epoch, None when it goes on."""

    @abstractmethod
    def _has_ended(self, record: TrialRecord) -> None:
        """Take note of a trial that was told how it ended."""

    # --- what is known -------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial by number."""
        return self._store.records()

    def record(self, number: int) -> TrialRecord:
        """Return one trial."""
        return self._store.record(number)

    @property
    def store(self) -> StudyStore:
        """Where the trials are kept."""
        return self._store

    @property
    def name(self) -> str:
        """The name in the storage."""
        return self._store.name

    def remember_run(self, number: int, run_id: str) -> None:
        """Store the MLflow run of a trial."""
        self._store.remember_run(number, run_id)

    def spend(self, seconds: float) -> None:
        """Count wall time of a launch."""
        self._store.set_attribute("seconds", self.spent_s + seconds)

    @property
    def spent_s(self) -> float:
        """The wall time of all launches."""
        return float(self._store.attribute("seconds", 0.0))

    # --- handing out ---------------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise `StorageError` where the database is gone, replaced or no longer held."""
        self._store.check()

    @property
    def num_live(self) -> int:
        """How many trials are handed out now."""
        return len(self._live)

    def next_attempt(self, num_workers: int = 1) -> Attempt | None:
        """Return the next attempt: an unfinished trial first, else a new one; None when all are handed out.

        It is to run on `num_workers`. Raises `NoSuccessError` where a search cannot go on.
        """
        for record in self.records():
            is_unfinished = record.state == State.RUNNING and record.number not in self._live
            if is_unfinished and self.apply_outcome(record.number) is Decision.CONTINUE:
                return self._started(record.number, self._store.start_attempt(record.number, num_workers))
        number = self._begin(num_workers)
        return None if number is None else self._started(number, attempt=1)

    def _started(self, number: int, attempt: int) -> Attempt:
        record = self.record(number)
        assert record.config is not None
        self._live[number] = attempt
        config = TrainConfig.from_flat(record.config)
        return Attempt(number, attempt, record.name, config, record.last_epoch, record.workers[-1])

    # --- what attempts report ------------------------------------------------------------------------------

    def report(
        self,
        number: int,
        attempt: int,
        epoch: int,
        metrics: Mapping[str, object],
        *,
        confusion: Mapping[str, Any] | None = None,
    ) -> Decision:
        """Record an epoch and decide. The first report of an epoch stands; other attempts' are ignored.

        A metric that is no finite number fails the trial. `confusion` are the JSON values of the confusion
        matrix, of which a trial keeps the newest.
        """
        record = self.record(number)
        if self._live.get(number) != attempt or record.state != State.RUNNING:
            return Decision.STOP
        values = as_numbers(metrics)
        bad = next((name for name, value in values.items() if not math.isfinite(value)), None)
        if bad is not None:
            message = f"{bad} is {metrics[bad]!r} in epoch {epoch}"
            self._store.add_attempt_end(number, AttemptEnd(attempt, Reason.NON_FINITE, message))
        elif epoch > record.last_epoch:
            if confusion is not None:  # first: the epoch may be what the trial ends with
                self._store.set_confusion(number, {"epoch": epoch, **confusion})
            self._store.add_epoch(number, epoch, values, attempt=attempt)
        return self.apply_outcome(number)

    def apply_outcome(self, number: int) -> Decision:
        """Tell a running trial what its recorded facts already decide; a repetition changes nothing."""
        record = self.record(number)
        if record.state != State.RUNNING:
            return Decision.STOP
        failure = failure_reason(record)
        if failure is not None:
            self._finish(number, State.FAIL, Reason(failure.reason), failure.message)
            return Decision.STOP
        if len(self._space.objectives) == 1:  # Optuna takes none for a study with more
            self._store.add_intermediate_values(number, record.series(self._space.objective.metric))
        if record.last_epoch >= record.total_epochs:
            self._complete(record)
            return Decision.STOP  # its workers have nothing left to do: ending them is faster than waiting
        reason = self._prune_reason(record)
        if reason is None:
            return Decision.CONTINUE
        self._finish(number, State.PRUNED, reason)
        return Decision.STOP

    def fail_attempt(self, number: int, attempt: int, reason: Reason, message: str) -> None:
        """Take note why an attempt ends before its time; its processes may be there still.

        A trial that still runs is handed out again once the attempt is over, unless the attempts that ended
        by themselves without a new epoch are too many, or the reason would only repeat.
        """
        record = self.record(number)
        is_told = any(end.attempt == attempt for end in record.attempt_ends)
        if self._live.get(number) == attempt and record.state == State.RUNNING and not is_told:
            self._store.add_attempt_end(number, AttemptEnd(attempt, reason, message))
            self.apply_outcome(number)

    def end_attempt(
        self, number: int, attempt: int, reason: Reason | None = None, message: str | None = None
    ) -> None:
        """Take note that an attempt is over; where nothing told why, it returned by itself."""
        if self._live.get(number) != attempt:
            return
        try:
            message = message or "training ended before its last epoch"
            self.fail_attempt(number, attempt, reason or Reason.ERROR, message)
        finally:
            del self._live[number]

    def interrupt_attempt(self, number: int, attempt: int) -> None:
        """Take note that the launcher itself stopped an attempt: the trial stays to be handed out again."""
        if self._live.get(number) == attempt:
            del self._live[number]

    # --- telling -------------------------------------------------------------------------------------------

    def _complete(self, record: TrialRecord) -> None:
        """Tell the last value of each objective; a trial that lacks one, or a constraint's metric, failed."""
        series = {o.metric: record.series(o.metric) for o in self._space.objectives}
        kept = violations(record, self._space.constraints)
        missing = [name for name, found in (*series.items(), *kept.items()) if found is None or found == []]
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
        self._has_ended(self.record(number))
