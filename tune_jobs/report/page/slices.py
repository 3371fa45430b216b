"""Slices: the objective against each parameter, one figure each."""

import math
from typing import Any

from selfcon.values import shown
from tune_jobs.report.page.axes import Axis, axis_of
from tune_jobs.report.page.plot import (
    LOOKS,
    Figure,
    Trace,
    layout,
    outcome,
    plain,
    points,
    single,
    status,
    titled,
)
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

HEIGHT_PX = 320
MAX_POWERS = 4
GOLDEN_RATIO = 0.618034  # the fractional parts of its multiples fill [0, 1) evenly
SPREAD = 0.3  # of the width of a choice, so that its trials do not hide each other


def slices(snapshot: Snapshot) -> tuple[Figure, ...]:
    """Return a figure for each parameter that is active in some trial with a value."""
    return tuple(
        _slice(snapshot, index, name)
        for index, name in enumerate(snapshot.space)
        if any(name in r.parameters and outcome(r, snapshot) is not None for r in snapshot.counted)
    )


def place(record: TrialRecord, axis: Axis) -> float:
    """Return the position of a trial on an axis; trials with the same choice are spread side by side."""
    position = axis.position(record.parameters[axis.name])
    if axis.choices is None:
        return position
    return position + SPREAD * ((record.number * GOLDEN_RATIO) % 1 - 0.5)


def log_ticks(low: float, high: float) -> list[float]:
    """Return 1, 2 and 5 times each power of ten from `low` to `high`; only the powers if there are many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    steps = (1, 2, 5) if len(powers) <= MAX_POWERS else (1,)
    found = [float(f"{step}e{power}") for power in powers for step in steps]
    return [value for value in found if low <= value <= high]


def _slice(snapshot: Snapshot, index: int, name: str) -> Figure:
    axis, metric = axis_of(snapshot, name), snapshot.objective.metric
    described = f"{metric} against {name}, a point for each trial"
    caption = f"{name} (logarithmic)" if axis.is_log else name
    found = layout(x=_scale(axis), y=titled(metric), showlegend=True)
    return single(f"slice-{index}", caption, described, _points(snapshot, axis), found, height_px=HEIGHT_PX)


def _scale(axis: Axis) -> dict[str, Any]:
    if axis.choices is not None:
        texts = [plain(shown(choice)) for choice in axis.choices]
        num = len(texts)
        return {
            "tickmode": "array",
            "tickvals": list(range(num)),
            "ticktext": texts,
            "range": [-0.5, num - 0.5],
            "automargin": True,
            "ticklabeloverflow": "allow",  # else the last one of long names is omitted
        }
    if not axis.is_log:
        return {}
    values = log_ticks(axis.low, axis.high)
    return {
        "type": "log",
        "tickmode": "array",
        "tickvals": values,
        "ticktext": [f"{value:g}" for value in values],
    }


def _points(snapshot: Snapshot, axis: Axis) -> list[Trace]:
    traces = []
    for label in LOOKS:
        group = [
            (record, value)
            for record in snapshot.counted
            if axis.name in record.parameters
            and status(record) == label
            and label != "failed"
            and (value := outcome(record, snapshot)) is not None
        ]
        if group:
            own = [record for record, _ in group]
            traces.append(
                points(label, own, [place(record, axis) for record in own], [value for _, value in group])
            )
    return traces
