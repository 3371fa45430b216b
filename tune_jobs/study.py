"""The durable state of a search: an Optuna study that everything else follows.

A trial is drawn, handed out to an attempt, reports its epochs, and is told COMPLETE, PRUNED or FAIL. Each
step is one write; a process may die between any two, and the next launch goes on from what is written. What
Ray keeps of a search is never read back.
"""

import math
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Any

import optuna
import sqlalchemy.exc

from selfcon.config import TrainConfig
from selfcon.errors import ConfigError
from tune_jobs.errors import BadInputError, NoSuccessError, StorageError
from tune_jobs.pruning import why_pruned
from tune_jobs.records import Reason, State, TrialRecord, as_json, attempt_key, epoch_key, record_of
from tune_jobs.sampling import make_sampler
from tune_jobs.space import SearchSpace

CONFIG_FORMAT = 1
MAX_FRUITLESS_ATTEMPTS = 3
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
        self._trials: dict[int, optuna.Trial] = {}
        try:
            self._study = optuna.create_study(
                storage=_storage(storage),
                study_name=f"{space.tracking.experiment}/{space.name}",
                direction=space.objective.direction,
                load_if_exists=True,
            )
        except (
            sqlalchemy.exc.SQLAlchemyError,
            optuna.exceptions.OptunaError,
            RuntimeError,
            OSError,
        ) as error:
            raise StorageError(f"the study's storage cannot be used: {_first_line(error)}") from error
        self._fix_for_life(as_json({**space.fixed_for_life(), "data_digest": data_digest}))
        self._enqueue_start()

    # --- what is known -------------------------------------------------------------------------------------

    def records(self) -> list[TrialRecord]:
        """Return every trial by number."""
        runs = self._study.user_attrs
        trials = self._study.get_trials(deepcopy=False, states=_ASKED)
        return [record_of(trial, mlflow_run=runs.get(f"mlflow_run:{trial.number}")) for trial in trials]

    def record(self, number: int) -> TrialRecord:
        """Return one trial."""
        return record_of(self._frozen(number))

    @property
    def name(self) -> str:
        """The name in the storage: `<experiment>/<name>`."""
        return self._study.study_name

    @property
    def num_trials(self) -> int:
        """The largest total ever asked for."""
        return int(self._study.user_attrs.get("num_trials", 0))

    def want(self, num_trials: int) -> None:
        """Ask for a total; a smaller one than before changes nothing."""
        if num_trials > self.num_trials:
            self._study.set_user_attr("num_trials", num_trials)

    @property
    def finished(self) -> bool:
        """Whether as many trials as asked for have ended and none is left unfinished."""
        records = [record for record in self.records() if record.counts]
        return len(records) >= self.num_trials and all(record.state != State.RUNNING for record in records)

    def winner(self) -> TrialRecord | None:
        """Return the best COMPLETE trial, the lower number on a tie; None without one."""
        complete = [record for record in self.records() if record.state == State.COMPLETE]
        sign = -1 if self._space.objective.direction == "maximize" else 1
        return min(complete, key=lambda record: (sign * _value(record), record.number), default=None)

    def publication(self) -> dict[str, Any] | None:
        """Return what `set_publication` stored of the winner, None before."""
        found: dict[str, Any] | None = self._study.user_attrs.get("publication")
        return found

    def set_publication(self, publication: Mapping[str, Any]) -> None:
        """Store the registered version and test figures of the winner."""
        self._study.set_user_attr("publication", as_json(publication))

    @property
    def concluded(self) -> bool:
        """Whether the winner of all trials asked for is published and MLflow has everything."""
        return self.finished and self._study.user_attrs.get("concluded_at") == self.num_trials

    def conclude(self) -> None:
        """Take note that the winner of all trials asked for is published and MLflow has everything."""
        self._study.set_user_attr("concluded_at", self.num_trials)

    def remember_run(self, number: int, run_id: str) -> None:
        """Store the MLflow run of a trial (with the study: Optuna lets no one write to an ended trial)."""
        self._study.set_user_attr(f"mlflow_run:{number}", run_id)

    # --- handing out ---------------------------------------------------------------------------------------

    @property
    def num_live(self) -> int:
        """How many trials are handed out now."""
        return len(self._live)

    def hand_out(self) -> HandOut | None:
        """Return the next attempt: an unfinished trial first, else a new one; None when all are handed out.

        Raises `NoSuccessError` when 1,000 configurations in a row were refused.
        """
        for record in self.records():
            if record.state == State.RUNNING and record.number not in self._live and self._still_runs(record):
                return self._start_attempt(record.number)
        for _ in range(MAX_REFUSED_IN_A_ROW):
            if sum(record.counts for record in self.records()) >= self.num_trials:
                return None
            number = self._draw(self._ask())
            if number is not None:
                return self._start_attempt(number)
        raise NoSuccessError(
            f"{MAX_REFUSED_IN_A_ROW} configurations in a row were refused: see `forbid` in the space file"
        )

    def _still_runs(self, record: TrialRecord) -> bool:
        """Finish what an earlier launcher left half told, or half drawn; False when that ended the trial."""
        if record.config is None:
            return self._draw(self._trial(record.number)) is not None
        self.settle(record.number)
        return self.record(record.number).state == State.RUNNING

    def _ask(self) -> optuna.Trial:
        self._seed(len(self._study.get_trials(deepcopy=False, states=_ASKED)))
        return self._study.ask()

    def _seed(self, number: int) -> None:
        self._study.sampler = make_sampler(
            self._space.search.sampler, seed=self._space.search.seed, number=number
        )

    def _draw(self, trial: optuna.Trial) -> int | None:
        """Give a trial its parameters and config; None when they are refused, which does not count."""
        parameters = self._space.suggest(trial)
        trial.set_user_attr("parameters", as_json(parameters))
        if self._space.is_forbidden(parameters):
            self._tell(trial.number, State.FAIL, Reason.FORBIDDEN)
            return None
        try:
            config = self._space.resolve(parameters)
        except ConfigError as error:
            self._tell(trial.number, State.FAIL, Reason.INVALID, str(error))
            return None
        trial.set_user_attr("config", {"format": CONFIG_FORMAT, "fields": as_json(config.flat())})
        self._trials[trial.number] = trial
        return trial.number

    def _start_attempt(self, number: int) -> HandOut:
        record = self.record(number)
        assert record.config is not None
        attempt = record.attempts + 1
        self._trial(number).set_user_attr(attempt_key(attempt), {"started_ms": _now_ms()})
        self._live[number] = attempt
        return HandOut(number, attempt, TrainConfig.from_flat(record.config), record.last_epoch)

    # --- what attempts report ------------------------------------------------------------------------------

    def report(self, number: int, attempt: int, epoch: int, metrics: Mapping[str, float]) -> Decision:
        """Record an epoch and decide. The first report of an epoch stands; other attempts' are ignored."""
        if self._live.get(number) != attempt or self.record(number).state != State.RUNNING:
            return Decision.STOP
        bad = [name for name, value in metrics.items() if not math.isfinite(value)]
        if bad:
            self._tell(
                number, State.FAIL, Reason.NON_FINITE, f"{bad[0]} is {metrics[bad[0]]} in epoch {epoch}"
            )
            return Decision.STOP
        if epoch > self.record(number).last_epoch:
            entry = {"epoch": epoch, "metrics": dict(metrics), "timestamp_ms": _now_ms(), "attempt": attempt}
            self._trial(number).set_user_attr(epoch_key(epoch), entry)
        return self.settle(number)

    def settle(self, number: int) -> Decision:
        """Tell a running trial what its recorded epochs already decide; a repetition changes nothing."""
        record = self.record(number)
        if record.state != State.RUNNING:
            return Decision.STOP
        if record.config is None:
            return Decision.CONTINUE
        self._copy_intermediate_values(record)
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
        reason = reason or Reason.ERROR
        message = message or "training ended before its last epoch"
        self._trial(number).set_user_attr(
            f"end-of-{attempt_key(attempt)}", {"reason": reason, "message": message}
        )
        if reason == Reason.NON_FINITE or self._fruitless_attempts(number) >= MAX_FRUITLESS_ATTEMPTS:
            self._tell(number, State.FAIL, reason, message)

    def interrupt_attempt(self, number: int, attempt: int) -> None:
        """Take note that the launcher itself stopped an attempt: the trial stays to be handed out again."""
        if self._live.get(number) == attempt:
            del self._live[number]

    def _fruitless_attempts(self, number: int) -> int:
        """How many attempts in a row, up to the newest, ended by themselves without a new epoch."""
        attributes = self._trial(number).user_attrs
        record = self.record(number)
        fruitful = {epoch.attempt for epoch in record.epochs}
        count = 0
        for attempt in range(record.attempts, 0, -1):
            if attempt in fruitful:
                break
            count += f"end-of-{attempt_key(attempt)}" in attributes
        return count

    # --- telling -------------------------------------------------------------------------------------------

    def _complete(self, record: TrialRecord) -> None:
        series = record.series(self._space.objective.metric)
        if series:
            self._study.tell(record.number, series[-1][1])
        else:
            message = f"{self._space.objective.metric} was never reported"
            self._tell(record.number, State.FAIL, Reason.ERROR, message)

    def _copy_intermediate_values(self, record: TrialRecord) -> None:
        """Give Optuna the objective of every epoch, so that its sampler learns from pruned trials too."""
        trial = self._trial(record.number)
        present = self._frozen(record.number).intermediate_values
        for epoch, value in record.series(self._space.objective.metric):
            if epoch not in present:
                trial.report(value, epoch)

    def _tell(self, number: int, state: State, reason: Reason, message: str | None = None) -> None:
        trial = self._trial(number)
        trial.set_user_attr("reason", reason)
        if message:
            trial.set_user_attr("message", message)
        self._study.tell(number, state=optuna.trial.TrialState[state])

    # --- Optuna --------------------------------------------------------------------------------------------

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _trial(self, number: int) -> optuna.Trial:
        """The live trial, made again for one that an earlier launcher asked for."""
        if number not in self._trials:
            self._seed(number)
            self._trials[number] = optuna.Trial(self._study, self._frozen(number)._trial_id)
        return self._trials[number]

    def _enqueue_start(self) -> None:
        for point in self._space.start_points():
            self._study.enqueue_trial(point, skip_if_exists=True)

    def _fix_for_life(self, fixed: dict[str, Any]) -> None:
        stored = self._study.user_attrs.get("fixed")
        if stored is None:
            self._study.set_user_attr("fixed", fixed)
            return
        for key in sorted({*stored, *fixed}):
            if stored.get(key) != fixed.get(key):
                raise BadInputError(
                    f"{key}: expected {stored.get(key)}, as when {self._space.name} was started, "
                    f"got {fixed.get(key)} (another --name makes it another search)"
                )


_ASKED = tuple(state for state in optuna.trial.TrialState if state != optuna.trial.TrialState.WAITING)


def _storage(url: str) -> optuna.storages.BaseStorage:
    """SQLite waits for another reader or writer instead of failing at once."""
    arguments = {"connect_args": {"timeout": 60}} if url.startswith("sqlite") else {}
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


def _value(record: TrialRecord) -> float:
    assert record.value is not None
    return record.value


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def _first_line(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).splitlines()[0]
    return type(error).__name__
