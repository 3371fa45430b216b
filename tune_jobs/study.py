"""The durable state of a search: an Optuna study that everything else follows.

A trial is drawn, handed out to an attempt, reports its epochs, and is told COMPLETE, PRUNED or FAIL. Each
step is one write of a fact, and what follows from the facts is decided from them alone; a process may die
between any two writes, and the next launch goes on from what is written. What Ray keeps of a search is never
read back.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from selfcon.config import TrainConfig
from tune_jobs.drawing import EXHAUSTED, TrialDrawer
from tune_jobs.errors import NoSuccessError
from tune_jobs.failures import as_numbers, failed_alike, why_failed
from tune_jobs.fingerprint import fix_for_life
from tune_jobs.pruning import why_pruned
from tune_jobs.records import AttemptEnd, Reason, State, TrialRecord, as_json
from tune_jobs.selection import best_of, pareto_front, violations
from tune_jobs.space import SearchSpace
from tune_jobs.study_store import StudyStore

MAX_REFUSED_IN_A_ROW = 1000


class Decision(Enum):
    """What a trial does after a report."""

    CONTINUE = "continue"
    STOP = "stop"


@dataclass(frozen=True)
class HandOut:
    """A trial given to a worker group: the attempt is part of every path it writes and report it makes.

    `last_epoch` is the newest that the study has, -1 before the first.
    """

    number: int
    attempt: int
    config: TrainConfig
    last_epoch: int


class SearchStudy:
    """Asks, hands out, records, prunes and tells the trials of one search.

    One process at a time may hold it (the launcher's lock). `storage` is an Optuna URL; the study is called
    `<experiment>/<name>`. Raises `StorageError` where the storage cannot be used, `BadInputError` when what
    is fixed for the life of the name differs from what the study was made with.
    """

    def __init__(self, storage: str, space: SearchSpace, *, data_digest: str) -> None:
        self._space = space
        self._live: dict[int, int] = {}  # trials in training now: number -> attempt
        self._store = StudyStore(
            storage,
            name=f"{space.tracking.experiment}/{space.name}",
            directions=[objective.direction for objective in space.objectives],
        )
        self._drawer = TrialDrawer(self._store, space)
        fix_for_life(self._store, {**space.fixed_for_life(), "data_digest": data_digest}, name=space.name)

    # --- what is known -------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial by number."""
        return self._store.records()

    def record(self, number: int) -> TrialRecord:
        """Return one trial."""
        return self._store.record(number)

    @property
    def name(self) -> str:
        """The name in the storage: `<experiment>/<name>`."""
        return self._store.name

    @property
    def num_trials(self) -> int:
        """The largest total ever asked for."""
        return int(self._store.attribute("num_trials", 0))

    def want(self, num_trials: int) -> None:
        """Ask for a total; a smaller one than before changes nothing."""
        if num_trials > self.num_trials:
            self._store.set_attribute("num_trials", num_trials)

    @property
    def finished(self) -> bool:
        """Whether as many trials as asked for, or as there are, have ended and none is left unfinished."""
        return self._has_enough and all(record.state != State.RUNNING for record in self.records())

    @property
    def failed_alike(self) -> str | None:
        """Why the search does not go on: its first three trials, or more, all ended FAIL for one reason.

        None where they did not. It stays so on later launches: a search that is mended has another name.
        """
        return failed_alike(self.records())

    def winner(self) -> TrialRecord | None:
        """Return the Pareto-optimal trial that is best in the first objective; None without one.

        With one objective that is the best one. Only COMPLETE trials that keep every constraint are looked
        at; the lower number wins a tie.
        """
        return best_of(self.records(), self._space.objectives)

    def pareto_front(self) -> list[TrialRecord]:
        """Return the COMPLETE trials that keep every constraint and that no other one dominates."""
        return pareto_front(self.records(), self._space.objectives)

    def publication(self) -> dict[str, Any] | None:
        """Return what `set_publication` stored of the winner, None before."""
        found: dict[str, Any] | None = self._store.attribute("publication")
        return found

    def set_publication(self, publication: Mapping[str, Any]) -> None:
        """Store the registered version and test figures of the winner."""
        self._store.set_attribute("publication", as_json(publication))

    @property
    def concluded(self) -> bool:
        """Whether the winner of all trials asked for is published and MLflow has everything."""
        return self.finished and self._store.attribute("concluded_at") == self._num_counted

    def conclude(self) -> None:
        """Take note that the winner of all trials asked for is published and MLflow has everything."""
        self._store.set_attribute("concluded_at", self._num_counted)

    def remember_run(self, number: int, run_id: str) -> None:
        """Store the MLflow run of a trial."""
        self._store.remember_run(number, run_id)

    def spend(self, seconds: float) -> None:
        """Count wall time of a launch towards the time budget."""
        self._store.set_attribute("seconds", self._store.attribute("seconds", 0.0) + seconds)

    @property
    def spent_budget(self) -> str | None:
        """Which budget is used up, in words: no new trial begins, unfinished ones go on to their end."""
        search = self._space.search
        if search.time_budget_s is not None and self._store.attribute("seconds", 0.0) >= search.time_budget_s:
            return f"search.time_budget of {search.time_budget}"
        if search.accelerator_hours is not None and self._accelerator_hours() >= search.accelerator_hours:
            return f"search.accelerator_hours of {search.accelerator_hours:g}"
        return None

    def _accelerator_hours(self) -> float:
        newest = (record.epochs[-1].metrics for record in self.records() if record.epochs)
        return math.fsum(metrics.get("cost/accelerator_hours", 0.0) for metrics in newest)

    @property
    def _has_enough(self) -> bool:
        exhausted = bool(self._store.attribute(EXHAUSTED))
        return self._num_counted >= self.num_trials or exhausted or self.spent_budget is not None

    @property
    def _num_counted(self) -> int:
        return sum(record.counts for record in self.records())

    # --- handing out ---------------------------------------------------------------------------------------

    @property
    def num_live(self) -> int:
        """How many trials are handed out now."""
        return len(self._live)

    def hand_out(self) -> HandOut | None:
        """Return the next attempt: an unfinished trial first, else a new one; None when all are handed out.

        Raises `NoSuccessError` when 1,000 configurations in a row were refused, and when no trial is left
        running and all that ended, three or more, failed for one reason.
        """
        for record in self.records():
            is_left = record.state == State.RUNNING and record.number not in self._live
            if is_left and self.settle(record.number) is Decision.CONTINUE:
                return self._hand_out(record.number, self._store.start_attempt(record.number))
        if self.failed_alike:
            if self._live:
                return None
            raise NoSuccessError(self.failed_alike)
        for _ in range(MAX_REFUSED_IN_A_ROW):
            if self._has_enough:
                return None
            number = self._drawer.draw()
            if number is not None:
                return self._hand_out(number, attempt=1)
        raise NoSuccessError(
            f"{MAX_REFUSED_IN_A_ROW} configurations in a row were refused: see `forbid` in the space file"
        )

    def _hand_out(self, number: int, attempt: int) -> HandOut:
        record = self.record(number)
        assert record.config is not None
        self._live[number] = attempt
        return HandOut(number, attempt, TrainConfig.from_flat(record.config), record.last_epoch)

    # --- what attempts report ------------------------------------------------------------------------------

    def report(self, number: int, attempt: int, epoch: int, metrics: Mapping[str, object]) -> Decision:
        """Record an epoch and decide. The first report of an epoch stands; other attempts' are ignored.

        A metric that is no finite number fails the trial.
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
            self._store.add_epoch(number, epoch, values, attempt=attempt)
        return self.settle(number)

    def settle(self, number: int) -> Decision:
        """Tell a running trial what its recorded facts already decide; a repetition changes nothing."""
        record = self.record(number)
        if record.state != State.RUNNING:
            return Decision.STOP
        failure = why_failed(record)
        if failure is not None:
            self._tell(number, State.FAIL, Reason(failure.reason), failure.message)
            return Decision.STOP
        if len(self._space.objectives) == 1:  # Optuna takes none for a study with more
            self._store.add_intermediate_values(number, record.series(self._space.objective.metric))
        if record.last_epoch >= record.total_epochs:
            self._complete(record)
            return Decision.STOP  # its workers have nothing left to do: ending them is faster than waiting
        reason = why_pruned(
            record, self.records(), pruner=self._space.pruner, objective=self._space.objective
        )
        if reason is None:
            return Decision.CONTINUE
        self._tell(number, State.PRUNED, reason)
        return Decision.STOP

    def end_attempt(
        self, number: int, attempt: int, reason: Reason | None = None, message: str | None = None
    ) -> None:
        """Take note that an attempt is over; without a reason it returned by itself.

        A trial that still runs is handed out again, unless the attempts that ended by themselves without a
        new epoch are too many, or the reason would only repeat.
        """
        if self._live.get(number) != attempt:
            return
        del self._live[number]
        if self.record(number).state != State.RUNNING:
            return
        end = AttemptEnd(attempt, reason or Reason.ERROR, message or "training ended before its last epoch")
        self._store.add_attempt_end(number, end)
        self.settle(number)

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
            self._tell(
                record.number, State.FAIL, Reason.ERROR, f"{missing[0]}: the metric was never reported"
            )
        else:
            values = [found[-1][1] for found in series.values()]
            self._tell(record.number, State.COMPLETE, None, None, values)

    def _tell(
        self, number: int, state: State, reason: Reason | None = None, message: str | None = None,
        values: list[float] | None = None,
    ) -> None:  # fmt: skip
        if state != State.FAIL:
            found = violations(self.record(number), self._space.constraints)
            self._store.add_violations(number, {n: v for n, v in found.items() if v is not None})
        self._store.tell(number, state, values=values, reason=reason, message=message)
        self._drawer.end(self.record(number))
