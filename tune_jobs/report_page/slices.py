"""The objective against each parameter, a figure for each."""

from typing import Any

from selfcon.wording import shown
from tune_jobs.records import TrialRecord
from tune_jobs.report_page.axes import Axis, axis_of
from tune_jobs.report_page.plot import (
    LOOKS,
    Figure,
    Trace,
    kind,
    layout,
    outcome,
    plain,
    points,
    single,
    titled,
)
from tune_jobs.snapshot import Snapshot

HEIGHT_PX = 320
GOLDEN_RATIO = 0.618034  # its multiples, less whole numbers, fill a range evenly in any order
SPREAD = 0.3  # of the place of a choice, so that its trials do not hide each other


def slices(snapshot: Snapshot) -> tuple[Figure, ...]:
    """Return a figure for each parameter that some trial with a value has."""
    return tuple(
        _slice(snapshot, index, name)
        for index, name in enumerate(snapshot.space)
        if any(name in r.parameters and outcome(r, snapshot) is not None for r in snapshot.counted)
    )


def place(record: TrialRecord, axis: Axis) -> float:
    """Return where a trial stands on an axis; trials with one choice stand side by side."""
    position = axis.position(record.parameters[axis.name])
    if axis.choices is None:
        return position
    return position + SPREAD * ((record.number * GOLDEN_RATIO) % 1 - 0.5)


def _slice(snapshot: Snapshot, index: int, name: str) -> Figure:
    axis, metric = axis_of(snapshot, name), snapshot.objective.metric
    described = f"{metric} against {name}, a point for each trial"
    found = layout(
        x=titled(name, **_scale(axis)),
        y=titled(metric),
        showlegend=index == 0,
    )
    return single(f"slice-{index}", name, described, _points(snapshot, axis), found, height_px=HEIGHT_PX)


def _scale(axis: Axis) -> dict[str, Any]:
    if axis.choices is not None:
        texts = [plain(shown(choice)) for choice in axis.choices]
        num = len(texts)
        return {
            "tickmode": "array",
            "tickvals": list(range(num)),
            "ticktext": texts,
            "range": [-0.5, num - 0.5],
        }
    return {"type": "log", "dtick": "D2"} if axis.is_log else {}


def _points(snapshot: Snapshot, axis: Axis) -> list[Trace]:
    traces = []
    for label in LOOKS:
        group = [
            (record, value)
            for record in snapshot.counted
            if axis.name in record.parameters
            and kind(record) == label
            and label != "failed"
            and (value := outcome(record, snapshot)) is not None
        ]
        if group:
            own = [record for record, _ in group]
            traces.append(
                points(label, own, [place(record, axis) for record in own], [value for _, value in group])
            )
    return traces
