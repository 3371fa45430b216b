"""The values a search parameter may take: a choice, whole numbers, or a range of floats.

Each kind suggests through Optuna's methods, knows its encoding there (a list is its JSON text, as Optuna's
storages hold scalars only), and names the few values that stand for all of them when rules are checked.
"""

import json
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Protocol

from selfcon.values import shown
from tune_jobs.space.yaml_scalars import Scalar


class Suggests(Protocol):
    """Optuna's trial, as far as a search space needs it."""

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float from `low` to `high`."""

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number from `low` to `high`."""

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return one of the choices."""


STEP_TOLERANCE = 1e-8  # as optuna.distributions.FloatDistribution has it


def encode(value: Any) -> Scalar:
    """Return a value as Optuna holds it: a list as its JSON text, a scalar as it is."""
    encoded: Scalar = json.dumps(list(value)) if isinstance(value, tuple) else value
    return encoded


@dataclass(frozen=True)
class Choices:
    """One of a few values, in order."""

    values: tuple[Any, ...]

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return the value that the trial chooses under an Optuna name."""
        encoded = [encode(value) for value in self.values]
        return self.values[encoded.index(trial.suggest_categorical(name, encoded))]

    def contains(self, value: Any) -> bool:
        """Return whether the value is one of the choices."""
        return value in self.values

    def corners(self, mentioned: Collection[Any]) -> tuple[Any, ...]:
        """Return the values a rule must hold for: all."""
        return self.values

    def spelled(self) -> dict[str, Any]:
        """Return the words of the file, as JSON values."""
        return {"choices": [list(value) if isinstance(value, tuple) else value for value in self.values]}

    def __str__(self) -> str:
        return " | ".join(shown(value) for value in self.values)


@dataclass(frozen=True)
class IntRange:
    """Whole numbers from low to high, both included."""

    low: int
    high: int
    step: int = 1
    log: bool = False

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return the number that the trial suggests under an Optuna name."""
        return trial.suggest_int(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Return whether the value is one of the numbers."""
        return isinstance(value, int) and value in range(self.low, self.high + 1, self.step)

    def corners(self, mentioned: Collection[Any]) -> tuple[Any, ...]:
        """Return the values a rule must hold for, when `when` and `forbid` single some out.

        These are the ends of the range, the numbers singled out, and their neighbours: what lies between
        differs from them in no condition, and rules are monotone.
        """
        numbers = {near for value in mentioned if self.contains(value) for near in self._around(value)}
        return tuple(sorted({self.low, self.high, *filter(self.contains, numbers)}))

    def _around(self, value: int) -> tuple[int, int, int]:
        return value - self.step, value, value + self.step

    def spelled(self) -> dict[str, Any]:
        """Return the words of the file, as JSON values."""
        return _spelled_range(self.low, self.high, None if self.step == 1 else self.step, self.log)

    def __str__(self) -> str:
        return _range_in_words(self.low, self.high, None if self.step == 1 else self.step, self.log)


@dataclass(frozen=True)
class FloatRange:
    """Floats from low to high, both included; with a step only low, low + step, ..."""

    low: float
    high: float
    step: float | None = None
    log: bool = False

    def suggest(self, trial: Suggests, name: str) -> Any:
        """Return the number that the trial suggests under an Optuna name."""
        return trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)

    def contains(self, value: Any) -> bool:
        """Return whether the value lies in the range, and on a step where there is one."""
        if not isinstance(value, float) or not self.low <= value <= self.high:
            return False
        if self.step is None:
            return True
        steps = (value - self.low) / self.step
        return abs(steps - round(steps)) < STEP_TOLERANCE

    def corners(self, mentioned: Collection[Any]) -> tuple[Any, ...]:
        """Return the values a rule must hold for: the ends, as rules are monotone."""
        return (self.low, self.high)

    def spelled(self) -> dict[str, Any]:
        """Return the words of the file, as JSON values."""
        return _spelled_range(self.low, self.high, self.step, self.log)

    def __str__(self) -> str:
        return _range_in_words(self.low, self.high, self.step, self.log)


Domain = Choices | IntRange | FloatRange


def is_whole_number_of_steps(low: float, high: float, step: float) -> bool:
    """Return whether `high` is `low` plus a whole number of steps, in the decimals the user wrote."""
    return (Decimal(str(high)) - Decimal(str(low))) % Decimal(str(step)) == 0


def _spelled_range(low: float, high: float, step: float | None, log: bool) -> dict[str, Any]:
    words: dict[str, Any] = {"low": low, "high": high}
    return words | ({"step": step} if step is not None else {}) | ({"log": True} if log else {})


def _range_in_words(low: float, high: float, step: float | None, log: bool) -> str:
    return (
        f"{low} to {high}" + (f" in steps of {step}" if step is not None else "") + (", log" if log else "")
    )
