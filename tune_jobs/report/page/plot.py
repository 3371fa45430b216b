"""Common parts of the page's figures in the format of plotly.js: traces, layouts, colours and symbols.

A figure consists of plain values that are serialised as JSON. The `customdata` of a point is the number of
its trial: this is how the page highlights one trial in every figure.
"""

import html
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.snapshot import Snapshot

Trace = dict[str, Any]
Layout = dict[str, Any]

# Distinguishable with every type of colour vision: Okabe and Ito, Color Universal Design, 2008.
BLUE, VERMILLION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK = "#E69F00", "#56B4E9", "#000000"
# For patterns on bars: by default plotly.js replaces the colour by the pattern.
OVER_COLOR = {"fillmode": "overlay", "fgcolor": "white", "size": 6}
GREY, PALE = "#8c8c8c", "rgba(110, 110, 110, 0.35)"
SCALE = "Cividis"
HEIGHT_PX = 380
SIGNIFICANT_DIGITS = 6  # more than a screen can show; keeps the page small


@dataclass(frozen=True)
class Look:
    """The style of the points of trials with one status: colour and symbol, either of which identifies it."""

    label: str
    color: str
    symbol: str


LOOKS: Mapping[str, Look] = {
    "complete": Look("complete", BLUE, "circle"),
    "infeasible": Look("complete, violates a constraint", PURPLE, "square-open"),
    "pruned": Look("pruned, last value", VERMILLION, "x-thin-open"),
    "running": Look("running, newest value", GREEN, "diamond-open"),
    "failed": Look("failed", BLACK, "triangle-down-open"),
}
SYMBOL_SIZES = {"pruned": 8, "complete": 8}


@dataclass(frozen=True)
class View:
    """One view of a figure; without `data` it shows the data of the first view."""

    label: str
    data: list[Trace] | None
    layout: Layout


@dataclass(frozen=True)
class Figure:
    """A figure of the page: its views, the first of which is shown initially, and its text alternative."""

    name: str
    caption: str
    description: str
    views: tuple[View, ...]
    height_px: int = HEIGHT_PX

    def as_json(self) -> dict[str, Any]:
        """Return the views as JSON values with rounded numbers; a non-finite number becomes a gap."""
        return {
            "views": [
                {"label": view.label, "data": shortened(view.data), "layout": shortened(view.layout)}
                for view in self.views
            ]
        }


def single(
    name: str,
    caption: str,
    description: str,
    data: list[Trace],
    layout: Layout,
    *,
    height_px: int = HEIGHT_PX,
) -> Figure:
    """Return a figure with one view."""
    return Figure(name, caption, description, (View("", data, layout),), height_px)


def status(record: TrialRecord) -> str:
    """Return the status of a trial: its key in `LOOKS`."""
    if record.state == State.COMPLETE:
        return "complete" if record.feasible else "infeasible"
    return {State.PRUNED: "pruned", State.FAIL: "failed", State.RUNNING: "running"}[record.state]


def outcome(record: TrialRecord, snapshot: Snapshot, index: int = 0) -> float | None:
    """Return the final value of an objective, else its newest one; None before the first."""
    if record.values:
        return record.values[index]
    series = record.series(snapshot.objectives[index].metric)
    return series[-1][1] if series else None


def points(status: str, records: Sequence[TrialRecord], x: Iterable[Any], y: Iterable[Any]) -> Trace:
    """Return the points of trials with one status, one for each record."""
    look = LOOKS[status]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": look.label,
        "x": list(x),
        "y": list(y),
        "customdata": [record.trial for record in records],
        "text": [hover_text(record) for record in records],
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": look.color,
            "symbol": look.symbol,
            "size": SYMBOL_SIZES.get(status, 9),
            "line": {"width": 1.6 if "open" in look.symbol else 0, "color": look.color},
            "opacity": 0.85,
        },
    }


def hover_text(record: TrialRecord) -> str:
    """Return the hover text of a trial's point: its label, value and state."""
    value = "" if record.value is None else f": {record.value:.4f}"
    why = f" ({record.reason})" if record.reason else ""
    return plain(f"trial {record.label}{value}, {record.state.word}{why}")


def layout(*, x: Mapping[str, Any], y: Mapping[str, Any], **more: Any) -> Layout:
    """Return a layout in the page's style; `x` and `y` extend or override the common style of the axes.

    Margins are fixed, since plotly.js draws a figure again to determine them; axes with long labels set
    `automargin`.
    """
    axis = {"gridcolor": "#e4e4e4", "zeroline": False, "linecolor": "#767676"}
    return {
        "autosize": True,
        "hovermode": "closest",
        "margin": {"l": 68, "r": 16, "t": 12, "b": 48},
        "paper_bgcolor": "white",
        "plot_bgcolor": "white",
        "font": {"family": "system-ui, sans-serif", "size": 13, "color": "#1a1a1a"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 12}},
        "hoverlabel": {"font": {"size": 13}, "align": "left"},
        "xaxis": {**axis, **x},
        "yaxis": {**axis, **y},
        **more,
    }


def titled(text: str, **more: Any) -> dict[str, Any]:
    """Return an axis with a title."""
    return {"title": {"text": plain(text), "standoff": 8}, **more}


def plain(text: str) -> str:
    """Return a text escaped for plotly.js, which interprets some tags and entities."""
    return html.escape(text, quote=False)


def shortened(value: Any) -> Any:
    """Return values fit for JSON: floats with few digits, None for non-finite numbers."""
    if isinstance(value, float):
        return float(f"{value:.{SIGNIFICANT_DIGITS}g}") if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): shortened(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [shortened(item) for item in value]
    return value


def short_names(names: Iterable[str]) -> dict[str, str]:
    """Return the last part of each dotted name; the whole name if two have the same last part."""
    listed = list(names)
    last = {name: name.rpartition(".")[2] for name in listed}
    words = list(last.values())
    return {name: word if words.count(word) == 1 else name for name, word in last.items()}


def padded(low: float, high: float, share: float = 0.06) -> list[float]:
    """Return the ends of an axis a little beyond `low` and `high`."""
    pad = (high - low) * share if high > low else max(abs(high) * share, 1e-3)
    return [low - pad, high + pad]
