"""What the study knows of its trials, as plain values: all that tracking, report and pruning ever read."""

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
    """How far a trial is. RUNNING also when its launcher is gone: it will be handed out again."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"

    @property
    def word(self) -> str:
        """The state as a sentence has it: `complete`, `pruned`, `failed`, `running`."""
        return "failed" if self is State.FAIL else self.lower()


# In the order in which people ask for them.
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
    PREEMPTED = "preempted"  # of an attempt: a node that it stood on was taken back
    NO_ROOM = "no room"  # of an attempt: its workers found no place on the cluster
    STORAGE = "storage"  # of no trial: it ends the search, and the trial is handed out again
    INVALID = "invalid"  # refused by TrainConfig when drawn; does not count
    FORBIDDEN = "forbidden"  # excluded by `forbid` when drawn; does not count


NOT_COUNTED = frozenset({Reason.INVALID, Reason.FORBIDDEN})
NOT_CHARGED = frozenset({Reason.PREEMPTED, Reason.NO_ROOM})

# How the attributes of an Optuna trial begin that hold an epoch, the start and the end of an attempt.
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
    """Why an attempt ended that neither finished its trial nor was stopped by the launcher, and when.

    `ended_ms` is None in studies of versions that did not keep it.
    """

    attempt: int
    reason: str
    message: str
    ended_ms: int | None = None


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the study has it. `config` is the complete flat TrainConfig, None where it was refused.

    A COMPLETE trial has the `values` of all objectives in their order, `value` is the first. `violations`
    says by how much each constraint is broken, once the trial ended; at most 0 where it is kept.

    A run of the confirmation is a record too: `confirms` is the number of the trial whose configuration it
    trains with another seed, `seed_index` says which one, counted from the trial itself as 0. So is a trial
    that was trained again: `reproduces` is its number, `repetition` counts from 1.

    `workers` says on how many workers each of its `attempts` was handed out, `attempts_started_ms` when.
    `confusion` holds the newest
    confusion matrix: the JSON values of `selfcon.evaluation.confusion.Confusion`, and `epoch`.
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
        """The number of the search's trial: its own, or that of the one it confirms or reproduces."""
        return next((n for n in (self.confirms, self.reproduces) if n is not None), self.number)

    @property
    def name(self) -> str:
        """What the trial's files and run are called by: `0007`, `0007-seed-1` for another seed of it, or
        `0007-again-1` where it is reproduced.
        """
        return f"{self.trial:04d}{self._suffix}"

    @property
    def label(self) -> str:
        """The name as people read it: `7`, or `7-seed-1`."""
        return f"{self.trial}{self._suffix}"

    @property
    def _suffix(self) -> str:
        if self.reproduces is not None:
            return f"-again-{self.repetition}"
        return "" if self.confirms is None else f"-seed-{self.seed_index}"

    @property
    def counts(self) -> bool:
        """Whether the trial is one of `num_trials`."""
        return self.reason not in NOT_COUNTED

    @property
    def feasible(self) -> bool:
        """Whether the trial keeps every constraint."""
        return all(violation <= 0 for violation in self.violations.values())

    @property
    def last_epoch(self) -> int:
        """The newest epoch reported, -1 before the first."""
        return self.epochs[-1].epoch if self.epochs else -1

    @property
    def total_epochs(self) -> int:
        """How many epochs a complete run has."""
        assert self.config is not None
        return int(self.config["optim.epochs"])

    def newest(self, metric: str) -> float | None:
        """Return what the newest epoch reported of a metric: of seconds and hours the total so far."""
        return self.epochs[-1].metrics.get(metric) if self.epochs else None

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Return (epoch, value) for each trained epoch that reported `metric`."""
        return [(e.epoch, e.metrics[metric]) for e in self.epochs if e.epoch > 0 and metric in e.metrics]


def epoch_key(epoch: int) -> str:
    """The name of the attribute that holds an epoch; padded, so that names sort like numbers."""
    return f"{EPOCH}{epoch:05d}"


def attempt_key(attempt: int) -> str:
    """The name of the attribute that holds the start of an attempt."""
    return f"{ATTEMPT}{attempt:03d}"


def attempt_end_key(attempt: int) -> str:
    """The name of the attribute that holds why an attempt ended."""
    return f"{ATTEMPT_END}{attempt:03d}"


def record_of(trial: optuna.trial.FrozenTrial, *, mlflow_run: str | None = None) -> TrialRecord:
    """Return the record of an Optuna trial of ours."""
    attributes = trial.user_attrs
    state = State(trial.state.name)
    # What a launcher that died meant to tell is decided again: the reason counts once the state is told.
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
    """Return the values with tuples for lists, as a TrainConfig has them: JSON knows lists only."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON gives them back, so that what is compared later is what was stored."""
    decoded: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return decoded
