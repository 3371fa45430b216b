"""Every trial as a line through its parameters to its value, broken where a parameter is inactive.

The lines are points of our own on axes from 0 to 1: plotly's parallel coordinates know no missing values.
"""

from collections.abc import Sequence
from typing import Any

from tune_jobs.records import TrialRecord
from tune_jobs.report_page.axes import Axis, axis_of
from tune_jobs.report_page.plot import (
    BLACK,
    PALE,
    Figure,
    Trace,
    kind,
    layout,
    outcome,
    plain,
    short_names,
    single,
)
from tune_jobs.snapshot import Snapshot

# Cividis from its dark end to its light one, without what white paper swallows.
Line = tuple[int, list[Any], list[Any]]  # the number of a trial, and the corners of its line
COLORS = ("#00224e", "#123570", "#3b496c", "#575d6d", "#707173", "#8a8678", "#a59c74", "#c3b369")
NUM_AXIS_LABEL_LETTERS = 14
FEW = 20  # of as many lines of one colour, corners can be told apart


def parallel(snapshot: Snapshot) -> Figure | None:
    """Return the figure; None before any trial has a value."""
    axes = [axis_of(snapshot, name) for name in snapshot.space]
    shown = [r for r in snapshot.counted if outcome(r, snapshot) is not None and kind(r) != "running"]
    if not shown:
        return None
    values = [value for record in shown if (value := outcome(record, snapshot)) is not None]
    objective = Axis(snapshot.objective.metric, None, min(values), max(values), is_log=False)
    described = f"{len(shown)} trials as lines through {len(axes)} parameters to {objective.name}"
    data = [*_verticals([*axes, objective]), *_lines(snapshot, axes, objective, shown)]
    data.append(_tick_texts([*axes, objective]))
    return single(
        "parallel", "Parameters and values", described, data, _layout(axes, objective), height_px=440
    )


def polyline(record: TrialRecord, axes: Sequence[Axis], end: float) -> tuple[list[Any], list[Any]]:
    """Return the corners of a trial's line; y is None where a parameter is inactive, `end` comes last."""
    shares = [
        axis.share(record.parameters[axis.name]) if axis.name in record.parameters else None for axis in axes
    ]
    return list(range(len(axes) + 1)), [*shares, end]


def _lines(
    snapshot: Snapshot, axes: Sequence[Axis], objective: Axis, records: Sequence[TrialRecord]
) -> list[Trace]:
    """The pruned trials, then the complete ones by value, the best last: it is on top."""

    def lines(group: Sequence[TrialRecord]) -> list[Line]:
        ends = (objective.share(outcome(record, snapshot)) for record in group)
        return [(r.trial, *polyline(r, axes, end)) for r, end in zip(group, ends, strict=True)]

    pruned = [record for record in records if kind(record) == "pruned"]
    complete, best = list(reversed(snapshot.complete)), snapshot.winner
    traces = [_trace(lines(pruned), "pruned", color=PALE, dash="dot")] if pruned else []
    size = -(-len(complete) // len(COLORS)) or 1
    for color, start in zip(COLORS, range(0, len(complete), size), strict=False):
        group = complete[start : start + size]
        ends = dict.fromkeys(f"{record.value:.4f}" for record in (group[0], group[-1]))
        traces.append(_trace(lines(group), " to ".join(ends), color=color))
    if best is not None:
        traces.append(_trace(lines([best]), f"the best, trial {best.label}", color="#D55E00", width=4))
    return _named_once(traces)


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


def _named_once(traces: list[Trace]) -> list[Trace]:
    """Equal values get several colours, but one entry of the legend."""
    names = [trace["name"] for trace in traces]
    return [{**trace, "showlegend": trace["name"] not in names[:place]} for place, trace in enumerate(traces)]


def _verticals(axes: Sequence[Axis]) -> list[Trace]:
    x = [part for place in range(len(axes)) for part in (place, place, None)]
    y = [part for _ in axes for part in (0, 1, None)]
    line = {"color": "#767676", "width": 1}
    return [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": y,
            "line": line,
            "hoverinfo": "skip",
            "showlegend": False,
        }
    ]


def _tick_texts(axes: Sequence[Axis]) -> Trace:
    ticks = [
        (
            place,
            share,
            f"{text[: NUM_AXIS_LABEL_LETTERS - 1]}…" if len(text) > NUM_AXIS_LABEL_LETTERS else text,
        )
        for place, axis in enumerate(axes)
        for share, text in (_objective_ticks(axis) if place == len(axes) - 1 else axis.ticks())
    ]
    return {
        "type": "scatter", "mode": "text", "hoverinfo": "skip", "showlegend": False, "cliponaxis": False,
        "x": [place for place, _, _ in ticks], "y": [share for _, share, _ in ticks],
        "text": [f" {plain(text)} " for *_, text in ticks],
        "textposition": ["middle left" if place == len(axes) - 1 else "middle right" for place, *_ in ticks],
        "textfont": {"size": 12, "color": BLACK},
    }  # fmt: skip


def _objective_ticks(axis: Axis) -> list[tuple[float, str]]:
    return [(share, f"{axis.low + share * (axis.high - axis.low):.4f}") for share in (0.0, 0.5, 1.0)]


def _layout(axes: Sequence[Axis], objective: Axis) -> dict[str, Any]:
    short = short_names(axis.name for axis in axes)
    labels = [f"{short[axis.name]}{' (log)' if axis.is_log else ''}" for axis in axes]
    x = {
        "tickmode": "array", "tickvals": list(range(len(axes) + 1)), "side": "bottom", "showgrid": False,
        "ticktext": [plain(label) for label in [*labels, objective.name]], "range": [-0.15, len(axes) + 0.15],
    }  # fmt: skip
    return layout(x=x, y={"visible": False, "range": [-0.05, 1.05]})
