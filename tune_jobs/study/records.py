"""Trials of a study as plain values, for tracking, report and pruning."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import optuna


Direction = Literal["maximize", "minimize"]


class State(StrEnum):
    """State of a trial. It is also RUNNING if its launcher is gone: it will be rescheduled."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def word(self) -> str:
        """The state as a word: `complete`, `pruned`, `failed`, `running`."""
        return "failed" if self is State.FAIL else self.lower()


# In the order of the reports.
STATES = (State.COMPLETE, State.PRUNED, State.FAIL, State.RUNNING)


class Reason(StrEnum):
    """Why a trial was pruned or failed, or an attempt ended early."""

    RUNG = "rung"  # pruned: not among the best of its rung
    MEDIAN = "median"  # pruned: behind the median of the finished trials
    COLLAPSED = "collapsed"  # pruned: the features fell onto one point
    NON_FINITE = "non-finite"
    OUT_OF_MEMORY = "out of memory"
    WORKER_LOST = "worker lost"
    HUNG = "hung"
    TIMED_OUT = "timed out"
    ERROR = "error"
    PREEMPTED = "preempted"  # of an attempt: one of its nodes was preempted
    NO_RESOURCES = "no room"  # of an attempt: its workers did not fit on the cluster
    STORAGE = "storage"  # of no trial: it ends the search
    INVALID = "invalid"  # refused by TrainConfig when sampled; does not count
    FORBIDDEN = "forbidden"  # excluded by `forbid` when sampled; does not count


NOT_COUNTED = frozenset({Reason.INVALID, Reason.FORBIDDEN})
NOT_CHARGED = frozenset({Reason.PREEMPTED, Reason.NO_RESOURCES})

# Prefixes of the attributes of an Optuna trial: epochs, starts and ends of attempts.
EPOCH, ATTEMPT, ATTEMPT_END = "epoch:", "attempt:", "end-of-attempt:"
CONFUSION = "confusion"


@dataclass(frozen=True)
class EpochRecord:
    """The first report of an epoch; epoch 0 is the untrained network.

    No two epochs of a study have the same `timestamp_ms`, and a later report has a later one.
    """

    epoch: int
    metrics: dict[str, float]
    timestamp_ms: int
    attempt: int


@dataclass(frozen=True)
class AttemptEnd:
    """Reason and time of the end of an attempt that neither finished its trial nor was stopped by the
    launcher.

    `ended_ms` is None in studies of versions that did not store it.
    """

    attempt: int
    reason: str
    message: str
    ended_ms: int | None = None


@dataclass(frozen=True)
class TrialRecord:
    """Trial of a study. `config` is the complete flat TrainConfig, None if TrainConfig refused it.

    A COMPLETE trial has the `values` of all objectives in order; `value` is the first. `violations` has the
    amount by which each constraint is violated, once the trial ended; at most 0 if it is satisfied.

    A repetition of the confirmation has a record too: `confirms` is the number of the trial that it repeats,
    `seed_index` the index of its seed (the trial itself has index 0). So does a reproduction: `reproduces` is
    the number of the trial, `repetition` counts from 1.

    `workers` and `attempts_started_ms` have the number of workers and the start of each of its `attempts`.
    `confusion` is the newest confusion matrix: the JSON values of `selfcon.evaluation.confusion.Confusion`,
    and `epoch`.
    """

    number: int
    state: State
    reason: str | None
    message: str | None
    parameters: dict[str, Any]
    config: dict[str, Any] | None
    epochs: tuple[EpochRecord, ...]
    attempts: int
    started_ms: int
    finished_ms: int | None
    value: float | None
    mlflow_run: str | None
    values: tuple[float, ...] = ()
    violations: Mapping[str, float] = field(default_factory=dict)
    attempt_ends: tuple[AttemptEnd, ...] = ()
    confirms: int | None = None
    seed_index: int = 0
    reproduces: int | None = None
    repetition: int = 0
    workers: tuple[int, ...] = ()
    attempts_started_ms: tuple[int, ...] = ()
    confusion: Mapping[str, Any] | None = None

    @property
    def trial(self) -> int:
        """The trial number in the search: its own, or that of the trial it confirms or reproduces."""
        return next((n for n in (self.confirms, self.reproduces) if n is not None), self.number)

    @property
    def name(self) -> str:
        """The name of its folder and run: `0007`, for a repetition `0007-seed-1`, for a reproduction
        `0007-again-1`.
        """
        return f"{self.trial:04d}{self._suffix}"

    @property
    def label(self) -> str:
        """The name in messages: `7` or `7-seed-1`."""
        return f"{self.trial}{self._suffix}"

    @property
    def _suffix(self) -> str:
        if self.reproduces is not None:
            return f"-again-{self.repetition}"
        return "" if self.confirms is None else f"-seed-{self.seed_index}"

    @property
    def counts(self) -> bool:
        """Whether the trial counts towards `num_trials`."""
        return self.reason not in NOT_COUNTED

    @property
    def feasible(self) -> bool:
        """Whether the trial satisfies every constraint."""
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def last_epoch(self) -> int:
        """The newest reported epoch, -1 before the first report."""
        return self.epochs[-1].epoch if self.epochs else -1

    @property
    def total_epochs(self) -> int:
        """Number of epochs of the complete training."""
        assert self.config is not None
        return int(self.config["optim.epochs"])

    def newest(self, metric: str) -> float | None:
        """Return the newest value of a metric; for seconds and hours the total so far."""
        return self.epochs[-1].metrics.get(metric) if self.epochs else None

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Return (epoch, value) for each trained epoch that reported `metric`."""
        return [(e.epoch, e.metrics[metric]) for e in self.epochs if e.epoch > 0 and metric in e.metrics]


def epoch_key(epoch: int) -> str:
    """The attribute of an epoch, padded with zeros so that names sort like numbers."""
    return f"{EPOCH}{epoch:05d}"


def attempt_key(attempt: int) -> str:
    """The attribute of the start of an attempt."""
    return f"{ATTEMPT}{attempt:03d}"


def attempt_end_key(attempt: int) -> str:
    """The attribute of the end of an attempt."""
    return f"{ATTEMPT_END}{attempt:03d}"


def record_of(trial: optuna.trial.FrozenTrial, *, mlflow_run: str | None = None) -> TrialRecord:
    """Return the record of an Optuna trial of a search."""
    attributes = trial.user_attrs
    state = State(trial.state.name)
    # The reason counts only once the state is stored: if the launcher died in between, it is decided again.
    ended_early = state in (State.PRUNED, State.FAIL)
    values = tuple(trial.values) if state == State.COMPLETE else ()
    starts = [attributes[key] for key in sorted(attributes) if key.startswith(ATTEMPT)]
    return TrialRecord(
        number=trial.number,
        state=state,
        reason=attributes.get("reason") if ended_early else None,
        message=attributes.get("message") if ended_early else None,
        parameters=with_tuples(attributes.get("parameters", {})),
        config=with_tuples(attributes["config"]["fields"]) if "config" in attributes else None,
        epochs=_epochs(attributes),
        attempts=len(starts),
        started_ms=int(trial.datetime_start.timestamp() * 1000) if trial.datetime_start else 0,
        finished_ms=int(trial.datetime_complete.timestamp() * 1000) if trial.datetime_complete else None,
        value=values[0] if values else None,
        mlflow_run=mlflow_run,
        values=values,
        violations=dict(trial.constraints),
        attempt_ends=_attempt_ends(attributes),
        confirms=attributes.get("confirms"),
        seed_index=attributes.get("seed_index", 0),
        reproduces=attributes.get("reproduces"),
        repetition=attributes.get("repetition", 0),
        workers=tuple(int(start.get("workers", 1)) for start in starts),
        attempts_started_ms=tuple(int(start["started_ms"]) for start in starts),
        confusion=attributes.get(CONFUSION),
    )


def _epochs(attributes: Mapping[str, Any]) -> tuple[EpochRecord, ...]:
    found = (EpochRecord(**value) for key, value in attributes.items() if key.startswith(EPOCH))
    return tuple(sorted(found, key=lambda record: record.epoch))


def _attempt_ends(attributes: Mapping[str, Any]) -> tuple[AttemptEnd, ...]:
    found = (
        AttemptEnd(int(key.removeprefix(ATTEMPT_END)), **value)
        for key, value in attributes.items()
        if key.startswith(ATTEMPT_END)
    )
    return tuple(sorted(found, key=lambda end: end.attempt))


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with tuples instead of JSON lists, as in TrainConfig."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values after a round trip through JSON, so that they equal stored ones."""
    decoded: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return decoded
