"""Comparison of each trial with the best one: behind, or tied with it within noise.

A COMPLETE trial is compared by its final value; a PRUNED one by its last value, with the value of the best
trial at the same epoch.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.report.noise import noise_around
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.snapshot import Snapshot


@dataclass(frozen=True)
class TrialGap:
    """A trial compared with the best: `gap` is how far it is behind at `epoch`, negative if it was ahead.

    `bound` is the largest gap that can be due to chance, 0 if that is not known.
    """

    record: TrialRecord
    epoch: int
    gap: float
    bound: float

    @property
    def tied(self) -> bool:
        """Whether the gap is within noise."""
        return self.gap <= self.bound

    @property
    def is_complete(self) -> bool:
        """Whether the trial trained all its epochs."""
        return self.record.state == State.COMPLETE


@dataclass(frozen=True)
class Group:
    """The ended trials with one value of a parameter; `best` is None if none of them can be compared."""

    value: Any
    records: tuple[TrialRecord, ...]
    best: TrialGap | None

    @property
    def num_complete(self) -> int:
        """The number of COMPLETE trials."""
        return sum(record.state == State.COMPLETE for record in self.records)


def ended(snapshot: Snapshot) -> list[TrialRecord]:
    """Return the trials that have ended, by number."""
    return [record for record in snapshot.counted if record.state != State.RUNNING]


def value_of(snapshot: Snapshot, record: TrialRecord) -> float:
    """Return the value that counts for a COMPLETE trial: its mean over seeds if confirmed, else its own."""
    means = {candidate.trial.number: candidate.mean for candidate in snapshot.candidates}
    assert record.value is not None
    return means.get(record.number, record.value)


def trial_gaps(snapshot: Snapshot) -> list[TrialGap]:
    """Return the trials that can be compared with the winner: COMPLETE ones before PRUNED ones, best first.

    These are the COMPLETE trials that satisfy every constraint, and the PRUNED ones whose last epoch is one
    at which the winner has a value too. If trials were confirmed, single values above the winner's mean do
    not count as better: they were selected for being high.
    """
    winner = snapshot.winner
    if winner is None:
        return []
    series, best = dict(winner.series(snapshot.objective.metric)), value_of(snapshot, winner)
    complete = [_gap_of(snapshot, r, value_of(snapshot, r), best) for r in snapshot.ranked_alone]
    pruned = [
        _gap_of(snapshot, record, own, series[record.last_epoch])
        for record in ended(snapshot)
        if record.state == State.PRUNED
        and record.last_epoch in series
        and (own := _last(snapshot, record)) is not None
    ]
    first = winner.number
    return [
        *sorted(complete, key=lambda one: (one.gap, one.record.number != first, one.record.number)),
        *sorted(pruned, key=lambda one: (-one.epoch, one.gap)),
    ]


def groups(snapshot: Snapshot, name: str) -> list[Group]:
    """Return the trials grouped by their value of a parameter, best group first, groups not compared last."""
    found = []
    for value in _values(snapshot, name):
        own = [record for record in ended(snapshot) if record.parameters.get(name) == value]
        compared = [one for one in trial_gaps(snapshot) if one.record.parameters.get(name) == value]
        best = min(compared, key=_order, default=None)
        found.append(Group(value, tuple(own), best))
    return sorted(found, key=lambda group: (True, math.inf) if group.best is None else _order(group.best))


def _order(gap: TrialGap) -> tuple[bool, float]:
    return not gap.is_complete, gap.gap


def _gap_of(snapshot: Snapshot, record: TrialRecord, own: float, best: float) -> TrialGap:
    gap = best - own if snapshot.maximize else own - best
    is_complete = record.state == State.COMPLETE
    # A pruned trial that was ahead keeps its negative gap: its final value is unknown.
    gap = max(0.0, gap) if is_complete and snapshot.candidates else gap
    return TrialGap(record, record.last_epoch, gap, noise_around(snapshot, best) or 0.0)


def _last(snapshot: Snapshot, record: TrialRecord) -> float | None:
    series = record.series(snapshot.objective.metric)
    return series[-1][1] if series and series[-1][0] == record.last_epoch else None


def _values(snapshot: Snapshot, name: str) -> Sequence[Any]:
    """The values that the space file allows, then further values of trials, without duplicates."""
    allowed = [choice for branch in snapshot.space[name] for choice in branch.get("choices", ())]
    tried = [record.parameters[name] for record in snapshot.counted if name in record.parameters]
    found: list[Any] = []
    for value in (*(tuple(each) if isinstance(each, list) else each for each in allowed), *tried):
        found += [] if value in found else [value]
    return found
