"""What the study knows of its trials, as plain values: all that tracking, report and pruning ever read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna


class State(StrEnum):
    """How far a trial is. RUNNING also when its launcher is gone: it will be handed out again."""

    RUNNING = "RUNNING"
    COMPLETE = "COMPLETE"
    PRUNED = "PRUNED"
    FAIL = "FAIL"


class Reason(StrEnum):
    """Why a trial was pruned or failed, or an attempt ended early."""

    RUNG = "rung"  # pruned: not among the best of its rung
    COLLAPSED = "collapsed"  # pruned: the features fell onto one point
    NON_FINITE = "non-finite"
    OUT_OF_MEMORY = "out of memory"
    WORKER_LOST = "worker lost"
    ERROR = "error"
    INVALID = "invalid"  # refused by TrainConfig when drawn; does not count
    FORBIDDEN = "forbidden"  # excluded by `forbid` when drawn; does not count


NOT_COUNTED = frozenset({Reason.INVALID, Reason.FORBIDDEN})


@dataclass(frozen=True)
class EpochRecord:
    """The first report of an epoch; epoch 0 is the untrained network."""

    epoch: int
    metrics: dict[str, float]
    timestamp_ms: int
    attempt: int


@dataclass(frozen=True)
class TrialRecord:
    """One trial as the study has it. `config` is the complete flat TrainConfig, None before it is drawn."""

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

    @property
    def counts(self) -> bool:
        """Whether the trial is one of `num_trials`."""
        return self.reason not in NOT_COUNTED

    @property
    def last_epoch(self) -> int:
        """The newest epoch reported, -1 before the first."""
        return self.epochs[-1].epoch if self.epochs else -1

    @property
    def total_epochs(self) -> int:
        """How many epochs a complete run has."""
        assert self.config is not None
        return int(self.config["optim.epochs"])

    def series(self, metric: str) -> list[tuple[int, float]]:
        """Return (epoch, value) for each trained epoch that reported `metric`."""
        return [(e.epoch, e.metrics[metric]) for e in self.epochs if e.epoch > 0 and metric in e.metrics]


def epoch_key(epoch: int) -> str:
    """The name of the attribute that holds an epoch; padded, so that names sort like numbers."""
    return f"epoch:{epoch:05d}"


def attempt_key(attempt: int) -> str:
    """The name of the attribute that holds the start of an attempt."""
    return f"attempt:{attempt:03d}"


def record_of(trial: optuna.trial.FrozenTrial, *, mlflow_run: str | None = None) -> TrialRecord:
    """Return the record of an Optuna trial of ours."""
    attributes = trial.user_attrs
    return TrialRecord(
        number=trial.number,
        state=State(trial.state.name),
        reason=attributes.get("reason"),
        message=attributes.get("message"),
        parameters=_with_tuples(attributes.get("parameters", {})),
        config=_with_tuples(attributes["config"]["fields"]) if "config" in attributes else None,
        epochs=_epochs(attributes),
        attempts=sum(key.startswith("attempt:") for key in attributes),
        started_ms=int(trial.datetime_start.timestamp() * 1000) if trial.datetime_start else 0,
        finished_ms=int(trial.datetime_complete.timestamp() * 1000) if trial.datetime_complete else None,
        value=trial.value if trial.state.name == State.COMPLETE else None,
        mlflow_run=mlflow_run,
    )


def _epochs(attributes: Mapping[str, Any]) -> tuple[EpochRecord, ...]:
    found = (EpochRecord(**value) for key, value in attributes.items() if key.startswith("epoch:"))
    return tuple(sorted(found, key=lambda record: record.epoch))


def _with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """JSON turned the lists of a TrainConfig into lists; ours are tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in values.items()}


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values as JSON gives them back, so that what is compared later is what was stored."""
    decoded: dict[str, Any] = json.loads(json.dumps(values, allow_nan=False))
    return decoded
