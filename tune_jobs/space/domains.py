"""Domains of search parameters: choices, ranges of integers, and ranges of floats.

Each type suggests values through Optuna's methods, in Optuna's encoding (a list is encoded as JSON text,
because Optuna's storages hold scalars only), and returns the corner values that suffice to check rules.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from selfcon.values import shown
from tune_jobs.space.yaml_scalars import Scalar


class Suggests(Protocol):
    """The methods of an Optuna trial that a search space calls."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float from `low` to `high`, both included."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer from `low` to `high`, both included."""

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return one of the choices."""


STEP_TOLERANCE = 1e-8  # the tolerance of optuna.distributions.FloatDistribution


def encode(value: Any) -> Scalar:
    """Return a value in Optuna's encoding: a tuple as JSON text, a scalar unchanged."""
    encoded: Scalar = json.dumps(list(value)) if isinstance(value, tuple) else value
    return encoded


@dataclass(frozen=True)
class Choices:
    """Domain of listed values, in the order of the file."""

    values: tuple[Any, ...]

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return the choice that the trial suggests for the Optuna parameter `name`."""
        encoded = [encode(value) for value in self.values]
        return self.values[encoded.index(trial.suggest_categorical(name, encoded))]

    def contains(self, value: Any) -> bool:
        """Return whether the value is one of the choices."""
        return value in self.values

    def corners(self, referenced: Collection[Any]) -> tuple[Any, ...]:
        """Return the values that rules must be checked for: every choice."""
        return self.values

    def as_json(self) -> dict[str, Any]:
        """Return the domain as the file states it, in JSON values."""
        return {"choices": [list(value) if isinstance(value, tuple) else value for value in self.values]}

    def __str__(self) -> str:
        return " | ".join(shown(value) for value in self.values)


@dataclass(frozen=True)
class IntRange:
    """Domain of integers from `low` to `high`, both included, in steps of `step`."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return the number that the trial suggests for the Optuna parameter `name`."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Return whether the value is an integer of the range."""
        return isinstance(value, int) and value in range(self.low, self.high + 1, self.step)

    def corners(self, referenced: Collection[Any]) -> tuple[Any, ...]:
        """Return the values that rules must be checked for.

        These are the bounds of the range, the values in `referenced` (those named by `when` and `forbid`),
        and their neighbours. All conditions treat the values in between alike, and rules are monotone.
        """
        numbers = {near for value in referenced if self.contains(value) for near in self._around(value)}
        return tuple(sorted({self.low, self.high, *filter(self.contains, numbers)}))

    def _around(self, value: int) -> tuple[int, int, int]:
        return value - self.step, value, value + self.step

    def as_json(self) -> dict[str, Any]:
        """Return the domain as the file states it, in JSON values."""
        return _range_as_json(self.low, self.high, None if self.step == 1 else self.step, self.log)

    def __str__(self) -> str:
        return _range_text(self.low, self.high, None if self.step == 1 else self.step, self.log)


@dataclass(frozen=True)
class FloatRange:
    """Domain of floats from `low` to `high`, both included; with a step only low, low + step, ..."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return the number that the trial suggests for the Optuna parameter `name`."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Return whether the value is a float in the range and, if there is a step, on a step."""
        if not isinstance(value, float) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < STEP_TOLERANCE

    def corners(self, referenced: Collection[Any]) -> tuple[Any, ...]:
        """Return the values that rules must be checked for: the bounds, because rules are monotone."""
        return (self.low, self.high)

    def as_json(self) -> dict[str, Any]:
        """Return the domain as the file states it, in JSON values."""
        return _range_as_json(self.low, self.high, self.step, self.log)

    def __str__(self) -> str:
        return _range_text(self.low, self.high, self.step, self.log)


Domain = Choices | IntRange | FloatRange


def is_whole_number_of_steps(low: float, high: float, step: float) -> bool:
    """Return whether `high` is `low` plus a whole number of steps, computed in decimal arithmetic."""
    return (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)) == 0


def _range_as_json(low: float, high: float, step: float | None, log: bool) -> dict[str, Any]:
    bounds: dict[str, Any] = {"low": low, "high": high}
    return bounds | ({"step": step} if step is not None else {}) | ({"log": True} if log else {})


def _range_text(low: float, high: float, step: float | None, log: bool) -> str:
    return (
        f"{low} to {high}" + (f" in steps of {step}" if step is not None else "") + (", log" if log else "")
    )
