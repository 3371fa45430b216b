"""Axes of search parameters: linear, logarithmic or categorical."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfcon.values import shown
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import shown_value


@dataclass(frozen=True)
class Axis:
    """Axis of a parameter. `choices` are its values in order; None for a range from `low` to `high`."""

    name: str
    choices: tuple[Any, ...] | None
    low: float
    high: float
    is_log: bool

    def position(self, value: Any) -> float:
        """Return the position of a value: the index of its choice, or the number itself."""
        if self.choices is not None:
            return float(self.choices.index(value))
        return float(value)

    def share(self, value: Any) -> float:
        """Return the relative position of a value, from 0 (low end) to 1; 0.5 if there is only one value."""
        position, low, high = self.position(value), self.low, self.high
        if self.is_log:
            position, low, high = math.log(position), math.log(low), math.log(high)
        return 0.5 if low == high else (position - low) / (high - low)

    def ticks(self) -> list[tuple[float, str]]:
        """Return the ticks as pairs of share and label: all choices, or both ends and the middle."""
        if self.choices is not None:
            return [(self.share(choice), shown(choice)) for choice in self.choices]
        middle = math.sqrt(self.low * self.high) if self.is_log else (self.low + self.high) / 2
        values = [self.low, middle, self.high] if self.low < self.high else [self.low]
        return [(self.share(value), shown_value(float(value))) for value in values]


def axis_of(snapshot: Snapshot, name: str) -> Axis:
    """Return the axis of a searched parameter, which spans its branches and the values of the trials."""
    branches, tried = snapshot.space[name], values_of(snapshot, name)
    if any("choices" in branch for branch in branches):
        choices = _without_duplicates([*_choices(branches), *tried])
        return Axis(name, tuple(choices), 0.0, len(choices) - 1.0, is_log=False)
    low = min([*(branch["low"] for branch in branches), *tried])
    high = max([*(branch["high"] for branch in branches), *tried])
    return Axis(name, None, float(low), float(high), is_log=low > 0 and all(b.get("log") for b in branches))


def values_of(snapshot: Snapshot, name: str) -> list[Any]:
    """Return the values of a parameter in the trials that have it, by trial number."""
    return [record.parameters[name] for record in snapshot.counted if name in record.parameters]


def is_choice(snapshot: Snapshot, name: str) -> bool:
    """Return whether a parameter is categorical."""
    return any("choices" in branch for branch in snapshot.space[name])


def _choices(branches: Sequence[Mapping[str, Any]]) -> list[Any]:
    values = [choice for branch in branches for choice in branch.get("choices", ())]
    return [tuple(value) if isinstance(value, list) else value for value in values]


def _without_duplicates(values: Sequence[Any]) -> list[Any]:
    found: list[Any] = []
    for value in values:
        if value not in found:
            found.append(value)
    return found
