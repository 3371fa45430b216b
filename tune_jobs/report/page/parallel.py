"""Parallel coordinates: each trial as a line through its parameters to its value, with gaps at inactive ones.

The lines are scatter traces on axes from 0 to 1: plotly's parallel coordinates support no missing values.
"""

import math
from collections.abc import Sequence
from typing import Any

from tune_jobs.report.page.axes import Axis, axis_of
from tune_jobs.report.page.plot import (
    PALE,
    VERMILLION,
    Figure,
    Layout,
    Trace,
    layout,
    outcome,
    plain,
    short_names,
    single,
    status,
)
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

Line = tuple[int, list[Any], list[Any]]  # the number of a trial, and the coordinates of its line
# Cividis from dark to light, without the colours that are too light on white.
COLORS = ("#00224e", "#35456c", "#666970", "#948e77", "#c8b866")
MAX_LABEL_LETTERS = 14
FEW = 20  # up to this number of lines of one colour, the points have markers


def parallel(snapshot: Snapshot) -> Figure | None:
    """Return the figure; None before any trial has a value."""
    axes = [axis_of(snapshot, name) for name in snapshot.space]
    shown = [r for r in snapshot.counted if outcome(r, snapshot) is not None and status(r) != "running"]
    if not shown:
        return None
    values = [value for record in shown if (value := outcome(record, snapshot)) is not None]
    objective = Axis(snapshot.objective.metric, None, min(values), max(values), is_log=False)
    described = f"{len(shown)} trials as lines through {len(axes)} parameters to {objective.name}"
    data = _lines(snapshot, axes, objective, shown)
    return single(
        "parallel", "Parameters and values", described, data, _layout([*axes, objective]), height_px=440
    )


def polyline(record: TrialRecord, axes: Sequence[Axis], end: float) -> tuple[list[Any], list[Any]]:
    """Return x and y of a trial's line; y is None at an inactive parameter, and `end` at the objective."""
    shares = [
        axis.share(record.parameters[axis.name]) if axis.name in record.parameters else None for axis in axes
    ]
    return list(range(len(axes) + 1)), [*shares, end]


def _lines(
    snapshot: Snapshot, axes: Sequence[Axis], objective: Axis, records: Sequence[TrialRecord]
) -> list[Trace]:
    """The pruned trials, then the complete ones by value, the best on top; equal values share a colour."""

    def lines(group: Sequence[TrialRecord]) -> list[Line]:
        ends = (objective.share(outcome(record, snapshot)) for record in group)
        return [(r.trial, *polyline(r, axes, end)) for r, end in zip(group, ends, strict=True)]

    pruned = [record for record in records if status(record) == "pruned"]
    complete, best = list(reversed(snapshot.complete)), snapshot.winner
    traces = [_trace(lines(pruned), "pruned", color=PALE, dash="dot")] if pruned else []
    values = list(dict.fromkeys(record.value for record in complete))
    size = max(1, math.ceil(len(values) / len(COLORS)))
    starts = range(0, len(values), size)
    for color, start in zip(COLORS[len(COLORS) - len(starts) :], starts, strict=True):
        own = set(values[start : start + size])
        group = [record for record in complete if record.value in own]
        ends = dict.fromkeys(f"{record.value:.4f}" for record in (group[0], group[-1]))
        traces.append(_trace(lines(group), " to ".join(ends), color=color))
    if best is not None:
        traces.append(_trace(lines([best]), f"best: trial {best.label}", color=VERMILLION, width=4))
    return traces


def _trace(lines: Sequence[Line], name: str, *, color: str, dash: str = "solid", width: float = 1.6) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers" if len(lines) <= FEW else "lines",
        "name": plain(name),
        "x": [place for _, x, _ in lines for place in (*x, None)],
        "y": [share for *_, y in lines for share in (*y, None)],
        "customdata": [number for trial, x, _ in lines for number in (*[trial] * len(x), None)],
        "line": {"color": color, "width": width, "dash": dash},
        "marker": {"color": color, "size": 5},
        "hovertemplate": "trial %{customdata}<extra></extra>",
    }


def _layout(axes: Sequence[Axis]) -> Layout:
    short = short_names(axis.name for axis in axes[:-1])
    names = [f"{short[axis.name]}{' (log)' if axis.is_log else ''}" for axis in axes[:-1]]
    x = {
        "tickmode": "array",
        "tickvals": list(range(len(axes))),
        "ticktext": [plain(name) for name in [*names, axes[-1].name]],
        "range": [-0.05, len(axes) - 0.95],
        "automargin": True,
        "gridcolor": "#767676",
        "showline": False,
    }
    found = layout(x=x, y={"visible": False, "range": [-0.05, 1.05]}, annotations=_labels(axes))
    return {**found, "margin": {"l": 32, "r": 60, "t": 12, "b": 32}}


def _labels(axes: Sequence[Axis]) -> list[dict[str, Any]]:
    """The labels to the right of each axis, with a background so that lines do not hide them."""
    return [
        {
            "x": place,
            "y": share,
            "text": plain(_cut(text)),
            "showarrow": False,
            "xanchor": "left",
            "xshift": 6,
            "bgcolor": "rgba(255, 255, 255, 0.8)",
            "font": {"size": 12},
        }
        for place, axis in enumerate(axes)
        for share, text in (axis.ticks() if place < len(axes) - 1 else _objective_ticks(axis))
    ]


def _objective_ticks(axis: Axis) -> list[tuple[float, str]]:
    shares = (0.0, 0.5, 1.0) if axis.low < axis.high else (0.5,)
    return [(share, f"{axis.low + share * (axis.high - axis.low):.4f}") for share in shares]


def _cut(text: str) -> str:
    return text if len(text) <= MAX_LABEL_LETTERS else f"{text[: MAX_LABEL_LETTERS - 1]}…"
