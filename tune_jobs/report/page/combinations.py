"""Heat map of two categorical parameters: exit position by sub-network depth if both are searched."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selfcon.values import shown
from tune_jobs.report.page.axes import axis_of, is_choice
from tune_jobs.report.page.plot import (
    SCALE,
    Figure,
    Trace,
    layout,
    padded,
    plain,
    short_names,
    single,
    titled,
)
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.snapshot import Snapshot

FIRST = ("model.exit_stages", "model.exit_depth")
UNUSED = "not used"  # stands for the value of an inactive parameter
EMPTY_COLOR = "#f1f1f1"
Combination = Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    """The trials of one combination; `best` is the best complete one, None without any.

    `why_empty` is the reason for an empty cell: not tried, forbidden, or a parameter is inactive.
    """

    best: TrialRecord | None
    num_complete: int
    num_pruned: int
    num_failed: int
    why_empty: str

    @property
    def text(self) -> str:
        """The text of the cell: the best value, and the number of trials by state."""
        counted = {"complete": self.num_complete, "pruned": self.num_pruned, "failed": self.num_failed}
        counts = [f"{count} {word}" for word, count in counted.items() if count]
        value = [] if self.best is None else [f"<b>{self.best.value:.4f}</b>"]
        return "<br>".join([*value, *counts]) or self.why_empty


def combinations(snapshot: Snapshot, importance: Mapping[str, float]) -> Figure | None:
    """Return the heat map of the two parameters that `compared` returns; None without a categorical one."""
    names = compared(snapshot, importance)
    if not names:
        return None
    short = short_names(snapshot.space)
    columns = _values(snapshot, names[0])
    rows = _values(snapshot, names[1]) if len(names) > 1 else [None]
    table = [[cell(snapshot, _combination(names, column, row)) for column in columns] for row in rows]
    title = " by ".join(short[name] for name in names)
    described = f"best {snapshot.objective.metric} and number of trials, {title}"
    common: dict[str, Any] = {"type": "category", "showgrid": False, "automargin": True}
    x = titled(short[names[0]], **common)
    y = titled(short[names[1]] if len(names) > 1 else "", autorange="reversed", **common)
    x_labels, y_labels = [_label(value) for value in columns], [_label(value) for value in rows]
    shown_cells = {"meta": {"cells": _cells(snapshot, names)}}
    data = [*_traces(snapshot, table, x_labels, y_labels, shown_cells)]
    height = 140 + 80 * len(rows)
    return single("combinations", f"Best value, {title}", described, data, layout(x=x, y=y), height_px=height)


def compared(snapshot: Snapshot, importance: Mapping[str, float]) -> tuple[str, ...]:
    """Return exit position and depth, else the most important categorical parameters, two at most."""
    if all(name in snapshot.space and is_choice(snapshot, name) for name in FIRST):
        return FIRST
    order = [*importance, *(name for name in snapshot.space if name not in importance)]
    return tuple([name for name in order if is_choice(snapshot, name)][:2])


def cell(snapshot: Snapshot, combination: Combination) -> Cell:
    """Return the cell of a combination of values, in which `UNUSED` marks an inactive parameter."""
    found = [record for record in snapshot.counted if _has(record, combination)]
    complete = [record for record in snapshot.ranked_alone if _has(record, combination)]
    states = [record.state for record in found]
    return Cell(
        best=complete[0] if complete else None,
        num_complete=states.count(State.COMPLETE),
        num_pruned=states.count(State.PRUNED),
        num_failed=states.count(State.FAIL),
        why_empty=why_empty(snapshot, combination),
    )


def why_empty(snapshot: Snapshot, combination: Combination) -> str:
    """Return why a cell is empty, from `when` and `forbid` entries about its parameters alone."""
    listed = {name: list(value) if isinstance(value, tuple) else value for name, value in combination.items()}
    for name, value in listed.items():
        applying = [branch for branch in snapshot.space[name] if _applies(branch.get("when", {}), listed)]
        if value == UNUSED:
            return "" if applying else "not tried"
        if not any(value in branch.get("choices", ()) for branch in applying):
            return "inactive"
    entries = snapshot.fixed.get("forbid", ())
    is_forbidden = any(all(listed.get(name) == value for name, value in entry.items()) for entry in entries)
    return "forbidden" if is_forbidden else "not tried"


def _combination(names: Sequence[str], column: Any, row: Any) -> Combination:
    return dict(zip(names, (column, row), strict=False))


def _values(snapshot: Snapshot, name: str) -> list[Any]:
    """The choices of a parameter, and `UNUSED` if it is inactive in some trial."""
    lacking = any(name not in record.parameters for record in snapshot.counted)
    return [*(axis_of(snapshot, name).choices or ()), *([UNUSED] if lacking else [])]


def _has(record: TrialRecord, combination: Combination) -> bool:
    return all(record.parameters.get(name, UNUSED) == value for name, value in combination.items())


def _applies(when: Mapping[str, Sequence[Any]], values: Combination) -> bool:
    return all(values[name] in alternatives for name, alternatives in when.items() if name in values)


def _label(value: Any) -> str:
    if value is None:
        return ""
    return UNUSED if value == UNUSED else plain(shown(value))


def _cells(snapshot: Snapshot, names: Sequence[str]) -> dict[str, list[str]]:
    """The cell of each trial, as the labels of its column and row."""
    return {
        str(record.number): [
            *(_label(record.parameters.get(name, UNUSED)) for name in names),
            *([""] if len(names) == 1 else []),
        ]
        for record in snapshot.counted
    }


def _traces(
    snapshot: Snapshot,
    table: Sequence[Sequence[Cell]],
    columns: Sequence[str],
    rows: Sequence[str],
    cells: Mapping[str, Any],
) -> list[Trace]:
    """The cells without a complete trial in grey, and the others coloured by their values."""
    best = [[one.best for one in line] for line in table]
    common: Trace = {
        "type": "heatmap", "x": list(columns), "y": list(rows), "xgap": 2, "ygap": 2, "hoverongaps": False,
        "text": [[one.text for one in line] for line in table], "texttemplate": "%{text}",
        "textfont": {"size": 12},
    }  # fmt: skip
    empty = {
        "z": [[0 if one is None else None for one in line] for line in best],
        "colorscale": [[0, EMPTY_COLOR], [1, EMPTY_COLOR]],
        "showscale": False,
        "hovertemplate": "%{text}<extra></extra>",
    }
    valued = {
        "z": [[None if one is None else one.value for one in line] for line in best],
        "customdata": [[None if one is None else one.trial for one in line] for line in best],
        "colorscale": SCALE,
        **_ends(best),
        "reversescale": not snapshot.maximize,
        "showscale": len({one.value for line in best for one in line if one is not None}) > 1,
        "colorbar": {"thickness": 12, "tickfont": {"size": 11}},
        "hovertemplate": "%{text}<br>best: trial %{customdata}<extra></extra>",
        **cells,
    }
    return [{**common, **empty}, {**common, **valued}]


def _ends(best: Sequence[Sequence[TrialRecord | None]]) -> dict[str, float]:
    """The ends of the colour scale: those of the values, or a little around a single value."""
    values = [one.value for line in best for one in line if one is not None and one.value is not None]
    low, high = padded(min(values), max(values), 0.0) if values else (0.0, 1.0)
    return {"zmin": low, "zmax": high}
