"""Pareto front of several objectives; for a single objective, its value against the training cost."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.report.page.plot import BLACK, Figure, Trace, View, layout, points, status, titled
from tune_jobs.space.settings import Objective
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

_STEPS = {"minimize": "hv", "maximize": "vh"}
MIN_SPAN = 0.05  # of the largest absolute value
PAD = 0.08  # of the span, on either side
SECONDS, ACCELERATOR_HOURS = "cost/seconds", "cost/accelerator_hours"


@dataclass(frozen=True)
class Pair:
    """Two metrics of complete trials: `across` on the horizontal axis, `up` on the vertical one."""

    across: Objective
    up: Objective
    records: tuple[TrialRecord, ...]
    values: tuple[tuple[float, float], ...]


def tradeoff(snapshot: Snapshot) -> Figure | None:
    """Return the figure: a view for each further objective, or one of costs. None without complete trials."""
    found = [pair for pair in pairs(snapshot) if pair.records]
    if not found:
        return None
    views = tuple(
        View(f"{pair.up.metric} against {pair.across.metric}", *_drawn(snapshot, pair)) for pair in found
    )
    described = f"{views[0].label}, a point for each complete trial, and the Pareto front as a line"
    return Figure("tradeoff", views[0].label, described, views)


def pairs(snapshot: Snapshot) -> list[Pair]:
    """Return the first objective against each further one, or against the training cost."""
    first = snapshot.objective
    others = list(snapshot.objectives[1:])
    complete = tuple(record for record in snapshot.counted if record.values)
    if others:
        values = [
            tuple((r.values[index], r.values[0]) for r in complete) for index in range(1, len(others) + 1)
        ]
        return [Pair(other, first, complete, own) for other, own in zip(others, values, strict=True)]
    costs = [ACCELERATOR_HOURS, SECONDS]
    metric = next((name for name in costs if any(record.newest(name) for record in complete)), SECONDS)
    known = tuple(record for record in complete if record.newest(metric) is not None)
    return [
        Pair(
            Objective(metric=metric, direction="minimize"),
            first,
            known,
            tuple((record.newest(metric) or 0.0, record.values[0]) for record in known),
        )
    ]


def front(pair: Pair) -> list[int]:
    """Return the indices of the feasible trials on the Pareto front of the pair, from left to right."""
    signs = [1 if side.direction == "minimize" else -1 for side in (pair.across, pair.up)]
    costs = {
        place: (signs[0] * across, signs[1] * up)
        for place, (across, up) in enumerate(pair.values)
        if pair.records[place].feasible
    }
    found: list[int] = []
    for place in sorted(costs, key=lambda place: costs[place]):
        if not found or costs[place][1] < costs[found[-1]][1]:
            found.append(place)
    return sorted(found, key=lambda place: pair.values[place][0])


def _drawn(snapshot: Snapshot, pair: Pair) -> tuple[list[Trace], dict[str, object]]:
    best = front(pair)
    traces = [_front_line(pair, best)] if len(best) > 1 else []
    for label in ("complete", "infeasible"):
        places = [place for place, record in enumerate(pair.records) if status(record) == label]
        if places:
            own = [pair.records[place] for place in places]
            traces.append(points(label, own, _column(pair, places, 0), _column(pair, places, 1)))
    if len(snapshot.objectives) > 2:
        traces.append(_undominated(snapshot, pair))
    return traces, layout(x=_axis(pair, 0), y=_axis(pair, 1))


def _axis(pair: Pair, side: int) -> dict[str, Any]:
    """An axis of at least `MIN_SPAN`: for nearly equal values plotly.js would magnify rounding errors."""
    values = [value[side] for value in pair.values]
    low, high = min(values), max(values)
    least = MIN_SPAN * max(abs(low), abs(high))
    pad = max(PAD * (high - low), (least - (high - low)) / 2)
    return titled((pair.across, pair.up)[side].metric, range=[low - pad, high + pad] if pad else None)


def _front_line(pair: Pair, places: Sequence[int]) -> Trace:
    """The front as steps: between two of its trials only the worse of their values is certain."""
    return {
        "type": "scatter", "mode": "lines", "name": "no trial is better in both", "hoverinfo": "skip",
        "x": _column(pair, places, 0), "y": _column(pair, places, 1),
        "line": {"shape": _STEPS[pair.across.direction], "color": BLACK, "width": 1.5},
    }  # fmt: skip


def _undominated(snapshot: Snapshot, pair: Pair) -> Trace:
    """The front of three or more objectives, which can include trials off the line of two of them."""
    numbers = {record.number for record in snapshot.front}
    places = [place for place, record in enumerate(pair.records) if record.number in numbers]
    return {
        "type": "scatter", "mode": "markers", "name": "on the Pareto front", "hoverinfo": "skip",
        "x": _column(pair, places, 0), "y": _column(pair, places, 1),
        "marker": {"symbol": "circle-open", "size": 14, "color": BLACK, "line": {"width": 1.5}},
    }  # fmt: skip


def _column(pair: Pair, places: Sequence[int], side: int) -> list[float]:
    return [pair.values[place][side] for place in places]
