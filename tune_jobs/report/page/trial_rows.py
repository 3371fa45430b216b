"""The table of all trials, best first, and the details of a highlighted trial."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tune_jobs.report.noise import interval
from tune_jobs.report.page.axes import is_choice
from tune_jobs.report.page.plot import outcome, short_names, shortened
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import duration, parameter_text, quantity, shown_value

NUM_SHOWN = 10
COSTS = ("cost/accelerator_hours", "cost/train_macs", "cost/peak_memory_mb")


@dataclass(frozen=True)
class Column:
    """A column: its heading, its meaning, and whether it holds numbers."""

    heading: str
    meaning: str
    is_number: bool = False


@dataclass(frozen=True)
class Entry:
    """A cell: its text, and its sort key if that is not the text; empty cells are sorted last."""

    text: str
    key: float | None = None


@dataclass(frozen=True)
class Row:
    """The row of a trial."""

    trial: int
    state: str
    entries: tuple[Entry, ...]


def columns(snapshot: Snapshot) -> tuple[Column, ...]:
    """Return the columns of the table."""
    short = short_names(snapshot.space)
    return (
        Column("trial", "trial number, in the order of sampling", is_number=True),
        Column(snapshot.objective.metric, "final value, or the newest one", is_number=True),
        Column("95 % interval", "Wilson interval of the validation accuracy"),
        Column("state", "state of the trial"),
        Column("reason", "why it was pruned or failed"),
        *(Column(short[name], name, is_number=not is_choice(snapshot, name)) for name in snapshot.space),
        Column("epochs", "number of epochs trained", is_number=True),
        Column("time", "time of training and evaluation, including repeated work", is_number=True),
        Column("attempts", "how often it was started or resumed", is_number=True),
    )


def rows(snapshot: Snapshot) -> tuple[Row, ...]:
    """Return the rows: complete trials by rank, then the others by last epoch, then by value."""
    ranks = {record.number: rank for rank, record in enumerate(_best_first(snapshot))}
    sign = -1 if snapshot.objective.direction == "maximize" else 1

    def place(record: TrialRecord) -> tuple[float, ...]:
        value = outcome(record, snapshot)
        last = math.inf if value is None else sign * value
        return (ranks.get(record.number, len(ranks)), -record.last_epoch, last, record.number)

    ordered = sorted(snapshot.counted, key=place)
    return tuple(Row(r.number, str(r.state), _entries(snapshot, r)) for r in ordered)


def details(snapshot: Snapshot) -> dict[str, Any]:
    """Return the details of each trial by its number, as JSON values: pairs of name and text."""
    return {str(record.number): shortened(_details(snapshot, record)) for record in snapshot.counted}


def _best_first(snapshot: Snapshot) -> list[TrialRecord]:
    """The confirmation's order, then that of the trials' own values; infeasible trials come last."""
    confirmed = [candidate.trial for candidate in snapshot.candidates]
    found = {r.number: r for r in (*confirmed, *snapshot.ranked, *snapshot.ranked_alone, *snapshot.complete)}
    return list(found.values())


def _entries(snapshot: Snapshot, record: TrialRecord) -> tuple[Entry, ...]:
    value = outcome(record, snapshot)
    seconds = record.newest("cost/seconds")
    state = record.state.word + ("" if record.feasible else ", violates a constraint")
    return (
        Entry(record.label, record.number),
        Entry("" if value is None else f"{value:.4f}", value),
        Entry(_interval(snapshot, record)),
        Entry(state),
        Entry(record.reason or ""),
        *(_parameter(record, name) for name in snapshot.space),
        Entry(str(max(record.last_epoch, 0)), max(record.last_epoch, 0)),
        Entry("" if seconds is None else duration(seconds), seconds),
        Entry(str(record.attempts), record.attempts),
    )


def _interval(snapshot: Snapshot, record: TrialRecord) -> str:
    found = None if record.value is None else interval(snapshot, record.value)
    return "" if found is None else f"{found[0]:.4f} to {found[1]:.4f}"


def _parameter(record: TrialRecord, name: str) -> Entry:
    if name not in record.parameters:
        return Entry("")
    value = record.parameters[name]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return Entry(shown_value(value), float(value) if is_number else None)


def _details(snapshot: Snapshot, record: TrialRecord) -> Mapping[str, Any]:
    value = outcome(record, snapshot)
    known = {
        snapshot.objective.metric: "" if value is None else f"{value:.4f}",
        "state": record.state.word + (f" ({record.reason})" if record.reason else ""),
        **{name: parameter_text(chosen) for name, chosen in record.parameters.items()},
        "epochs": str(max(record.last_epoch, 0)),
        "attempts": str(record.attempts),
        "message": record.message or "",
        **{f"attempt {end.attempt}": f"{end.reason}: {end.message}" for end in record.attempt_ends},
        **{name: quantity(record.newest(name) or 0.0) for name in COSTS if record.newest(name)},
        "MLflow run": record.mlflow_run or "",
    }
    return {"label": record.label, "facts": [[name, text] for name, text in known.items() if text]}
