"""How the values of a search parameter lie on an axis: numbers, also by their logarithm, or choices."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfcon.values import shown
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import shown_value


@dataclass(frozen=True)
class Axis:
    """The axis of a parameter. `choices` are its values in order; None for a range from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] | None
    low: float
    high: float
    is_log: bool

    def position(self, value: Any) -> float:
        """Return where a value lies: the number of its choice, or the number itself."""
        if self.choices is not None:
            return float(self.choices.index(value))
        return float(value)

    def share(self, value: Any) -> float:
        """Return where a value lies from 0, the low end, to 1; the middle where there is one place only."""
        position, low, high = self.position(value), self.low, self.high
        if self.is_log:
            position, low, high = math.log(position), math.log(low), math.log(high)
        return 0.5 if low == high else (position - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the shares at which the axis is labelled, with their texts: all choices, or both ends."""
        if self.choices is not None:
            return [(self.share(choice), shown(choice)) for choice in self.choices]
        middle = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        values = [self.low, middle, self.high] if self.low < self.high else [self.low]
        return [(self.share(value), shown_value(float(value))) for value in values]


def axis_of(snapshot: Snapshot, name: str) -> Axis:
    """Return the axis of a searched parameter: as wide as its branches and the values that trials have."""
    branches, tried = snapshot.space[name], values_of(snapshot, name)
    if any("choices" in branch for branch in branches):
        choices = _each_once([*_choices(branches), *tried])
        return Axis(name, tuple(choices), 0.0, len(choices) - 1.0, is_log=False)
    low = min([*(branch["low"] for branch in branches), *tried])
    high = max([*(branch["high"] for branch in branches), *tried])
    return Axis(name, None, float(low), float(high), is_log=low > 0 and all(b.get("log") for b in branches))


def values_of(snapshot: Snapshot, name: str) -> list[Any]:
    """Return the values that trials have of a parameter, by trial number."""
    return [record.parameters[name] for record in snapshot.counted if name in record.parameters]


def is_choice(snapshot: Snapshot, name: str) -> bool:
    """Return whether a parameter is one of a few values."""
    return any("choices" in branch for branch in snapshot.space[name])


def _choices(branches: Sequence[Mapping[str, Any]]) -> list[Any]:
    values = [choice for branch in branches for choice in branch.get("choices", ())]
    return [tuple(value) if isinstance(value, list) else value for value in values]


def _each_once(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
