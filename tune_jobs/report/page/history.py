"""Optimisation history: the values of an objective by trial number, and the best so far."""

import statistics
from collections.abc import Sequence
from itertools import accumulate

from tune_jobs.report.page.plot import (
    BLUE,
    LOOKS,
    Figure,
    Trace,
    View,
    layout,
    outcome,
    padded,
    points,
    status,
    titled,
)
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

FEW = 4  # too few values for a separate view of the better half


def history(snapshot: Snapshot) -> Figure | None:
    """Return the figure, with views for each objective; None before any trial has a value or failed.

    Failed trials are drawn at the bottom edge.
    """
    views = [
        view
        for index in range(len(snapshot.objectives))
        for view in _views(snapshot, index, snapshot.counted)
    ]
    if not views:
        return None
    described = (
        f"{snapshot.objective.metric} of {len(snapshot.counted)} trials by number, and the best so far"
    )
    return Figure("history", "Values by trial, and the best so far", described, tuple(views))


def best_so_far(snapshot: Snapshot, index: int = 0) -> tuple[list[int], list[float]]:
    """Return the numbers of the feasible complete trials, and the best value up to each of them."""
    found = [(r.number, r.values[index]) for r in snapshot.counted if r.values and r.feasible]
    better = max if snapshot.objectives[index].direction == "maximize" else min
    return [number for number, _ in found], list(accumulate((value for _, value in found), better))


def _views(snapshot: Snapshot, index: int, records: Sequence[TrialRecord]) -> list[View]:
    metric = snapshot.objectives[index].metric
    values = [value for record in records if (value := outcome(record, snapshot, index)) is not None]
    if not values and not any(status(record) == "failed" for record in records):
        return []
    low, high = padded(min(values), max(values)) if values else [0.0, 1.0]
    data = [*_by_status(snapshot, index, records, bottom=low), *_best_line(snapshot, index)]
    x = titled("trial", tickformat="d")
    whole = layout(x=x, y=titled(metric, range=[low, high]))
    closer = _better_half(snapshot, index)
    if closer is None:
        return [View(metric, data, whole)]
    near = layout(x=x, y=titled(metric, range=closer))
    return [View(f"{metric}: all values", data, whole), View(f"{metric}: the better half", data, near)]


def _better_half(snapshot: Snapshot, index: int) -> list[float] | None:
    """An axis range from the median of the complete trials to the best; None if it would show nothing new."""
    values = [record.values[index] for record in snapshot.counted if record.values]
    if len(values) <= FEW:
        return None
    middle = statistics.median(values)
    best = max(values) if snapshot.objectives[index].direction == "maximize" else min(values)
    return None if best == middle else padded(min(middle, best), max(middle, best))


def _by_status(
    snapshot: Snapshot, index: int, records: Sequence[TrialRecord], *, bottom: float
) -> list[Trace]:
    traces = []
    for label in LOOKS:
        group = [
            (record, bottom if label == "failed" else outcome(record, snapshot, index))
            for record in records
            if status(record) == label
        ]
        known = [(record, value) for record, value in group if value is not None]
        if known:
            own = [record for record, _ in known]
            trace = points(label, own, [record.number for record in own], [value for _, value in known])
            traces.append({**trace, "cliponaxis": False} if label == "failed" else trace)
    return traces


def _best_line(snapshot: Snapshot, index: int) -> list[Trace]:
    numbers, best = best_so_far(snapshot, index)
    if not numbers:
        return []
    return [
        {
            "type": "scatter", "mode": "lines", "name": "best so far", "x": numbers, "y": best,
            "line": {"shape": "hv", "color": BLUE, "width": 2}, "hoverinfo": "skip",
        }
    ]  # fmt: skip
