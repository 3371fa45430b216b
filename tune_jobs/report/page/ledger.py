"""What the search cost, by how its trials ended, and what ending some early saved."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune_jobs.report.page.plot import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    OVER_COLOR,
    VERMILLION,
    Figure,
    Trace,
    layout,
    single,
    titled,
)
from tune_jobs.report.page.section import Table
from tune_jobs.report.page.words import quantity, share
from tune_jobs.study.records import STATES, State, TrialRecord
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import counted, duration

LOOKS: Mapping[str, tuple[str, str]] = {
    "complete": (BLUE, ""),
    "pruned": (VERMILLION, "/"),
    "failed": (BLACK, "x"),
    "running": (GREEN, "+"),
    "confirmation": (ORANGE, "."),
}


@dataclass(frozen=True)
class Entry:
    """What a group of trials cost together; `peak_memory_mb` is the largest of any of them."""

    label: str
    num_trials: int
    epochs: int
    seconds: float
    accelerator_hours: float
    train_macs: float
    peak_memory_mb: float


def entries(snapshot: Snapshot) -> list[Entry]:
    """Return an entry for each state that trials have, for all of them, and for the confirmation."""
    groups = {s.word: [record for record in snapshot.counted if record.state == s] for s in STATES}
    found = [_entry(name, group) for name, group in groups.items() if group]
    total = _entry("all trials", snapshot.counted)
    return [*found, total, *([_entry("confirmation", snapshot.seeds)] if snapshot.seeds else [])]


def ledger_table(snapshot: Snapshot) -> Table:
    """Return the entries as a table."""
    columns = ("", "trials", "epochs", "time", "accelerator-hours", "train MACs", "peak memory, MB")
    rows = tuple(
        (
            entry.label,
            f"{entry.num_trials:,}",
            f"{entry.epochs:,}",
            duration(entry.seconds),
            quantity(entry.accelerator_hours),
            quantity(entry.train_macs),
            quantity(entry.peak_memory_mb),
        )
        for entry in entries(snapshot)
    )
    return Table(columns, rows, numbers=frozenset(range(1, len(columns))))


def ledger_bars(snapshot: Snapshot) -> Figure | None:
    """Return the seconds of each group as bars; None before any were spent."""
    found = [entry for entry in entries(snapshot) if entry.label in LOOKS and entry.seconds > 0]
    if not found:
        return None
    described = "; ".join(f"{entry.label} {duration(entry.seconds)}" for entry in found)
    x = titled("seconds of training and evaluation", range=[0, 1.2 * max(entry.seconds for entry in found)])
    y = {"autorange": "reversed", "type": "category", "showgrid": False, "automargin": True}
    data, shown = [_bar(entry) for entry in found], layout(x=x, y=y, showlegend=False)
    height = 80 + 40 * len(found)
    return single("ledger", "Time by how trials ended", described, data, shown, height_px=height)


def _bar(entry: Entry) -> Trace:
    color, pattern = LOOKS[entry.label]
    return {
        "type": "bar",
        "orientation": "h",
        "x": [entry.seconds],
        "y": [entry.label],
        "text": [duration(entry.seconds)],
        "textposition": "outside",
        "cliponaxis": False,
        "hovertemplate": "%{y}: %{text}<extra></extra>",
        "marker": {"color": color, "pattern": {"shape": pattern, **OVER_COLOR}},
    }


def saving(snapshot: Snapshot) -> str:
    """Return in a sentence how many epochs were not trained because trials were pruned."""
    pruned = [record for record in snapshot.counted if record.state == State.PRUNED]
    if not pruned:
        return "No trial was pruned."
    left = sum(record.total_epochs - max(record.last_epoch, 0) for record in pruned)
    trained = sum(max(record.last_epoch, 0) for record in snapshot.counted)
    seconds = math.fsum(_seconds_left(record) for record in pruned)
    return (
        f"Pruning saved {counted(left, 'epoch')}, {share(left, left + trained)} of what all trials would "
        f"have trained, about {duration(seconds)} at the pace of the pruned ones."
    )


def _seconds_left(record: TrialRecord) -> float:
    epochs = max(record.last_epoch, 0)
    return (record.newest("cost/seconds") or 0.0) / epochs * (record.total_epochs - epochs) if epochs else 0.0


def _entry(label: str, records: Sequence[TrialRecord]) -> Entry:
    def summed(metric: str) -> float:
        return math.fsum(record.newest(metric) or 0.0 for record in records)

    return Entry(
        label=label,
        num_trials=len(records),
        epochs=sum(max(record.last_epoch, 0) for record in records),
        seconds=summed("cost/seconds"),
        accelerator_hours=summed("cost/accelerator_hours"),
        train_macs=summed("cost/train_macs"),
        peak_memory_mb=max((record.newest("cost/peak_memory_mb") or 0.0 for record in records), default=0.0),
    )
