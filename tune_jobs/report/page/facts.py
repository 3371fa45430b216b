"""Tables of facts: the search's settings, progress and cost, and the winner's parameters and metrics."""

import math
from collections import Counter

from tune_jobs.report.page.section import Table
from tune_jobs.study.records import STATES, State, TrialRecord
from tune_jobs.study.selection import constraint_text
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import counted, duration, moment, parameter_text, quantity, share


def facts(snapshot: Snapshot) -> Table:
    """Return the facts of the search as a whole, one per row."""
    rows = [
        ("state", _state(snapshot)),
        ("objective", "; ".join(f"{o.direction} {o.metric}" for o in snapshot.objectives)),
        ("constraints", "; ".join(constraint_text(constraint) for constraint in snapshot.constraints)),
        (
            "sampler",
            f"{snapshot.fixed.get('sampler', 'unknown')}, seed {snapshot.fixed.get('seed', 'unknown')}",
        ),
        ("pruner", _pruner(snapshot)),
        ("confirmation", _confirmation(snapshot)),
        ("data", _data(snapshot)),
        ("data digest", str(snapshot.fixed.get("data_digest", "unknown"))),
        ("registered encoder", snapshot.encoder or "none yet"),
        ("cost", _cost(snapshot)),
        ("time by outcome", _time_by_outcome(snapshot)),
        ("pruning", saving(snapshot)),
        ("attempts that ended early", _early_ends(snapshot)),
        ("this page", f"shows the search as of {moment(snapshot.taken_ms)}"),
    ]
    return Table(("fact", "value"), tuple((name, text) for name, text in rows if text))


def winner_test_metrics(snapshot: Snapshot) -> Table | None:
    """Return the winner's metrics on the test set; None before it is registered."""
    publication = snapshot.publication
    if publication is None:
        return None
    rows = tuple((name, f"{value:.4f}") for name, value in sorted(publication["metrics"].items()))
    return Table((f"test set, trial {publication['trial']}", "value"), rows)


def winner_parameters(snapshot: Snapshot) -> Table | None:
    """Return the winner's searched parameters; None without a winner."""
    winner = snapshot.winner
    if winner is None:
        return None
    rows = tuple((name, parameter_text(value)) for name, value in winner.parameters.items())
    return Table((f"parameter, trial {winner.label}", "value"), rows)


def winner_configuration(snapshot: Snapshot) -> Table | None:
    """Return the winner's complete configuration; None without a winner."""
    winner = snapshot.winner
    if winner is None or winner.config is None:
        return None
    rows = tuple((name, parameter_text(value)) for name, value in winner.config.items())
    return Table(("field", "value"), rows)


def _state(snapshot: Snapshot) -> str:
    states = [record.state for record in snapshot.counted]
    counts = ", ".join(f"{states.count(state)} {state.word}" for state in STATES if state in states)
    word = "complete" if snapshot.is_over else "not complete yet"
    ended = sum(state != State.RUNNING for state in states)
    asked = f"{word}: {ended} of {counted(snapshot.num_trials, 'trial')} ended"
    return f"{asked} ({counts})" if counts else asked


def _pruner(snapshot: Snapshot) -> str:
    found = snapshot.fixed["pruner"]
    settings = ", ".join(f"{name} {value}" for name, value in found.items() if name != "kind")
    return f"{found['kind']}, {settings}" if settings else str(found["kind"])


def _confirmation(snapshot: Snapshot) -> str:
    confirm = snapshot.confirm
    return "" if confirm is None else f"the best {confirm.top_k} over {confirm.seeds} seeds each"


def _data(snapshot: Snapshot) -> str:
    data = snapshot.data
    if data is None:
        return str(snapshot.train.get("data.dataset", "unknown"))
    parts = ", ".join(f"{count:,} {part}" for part, count in data.num_images.items())
    return f"{data.name}: {counted(data.num_classes, 'class', 'classes')}, images {parts}"


def saving(snapshot: Snapshot) -> str:
    """Return the number of epochs saved by pruning, as text; empty if no trial was pruned."""
    pruned = [record for record in snapshot.counted if record.state == State.PRUNED]
    if not pruned:
        return ""
    left = sum(record.total_epochs - max(record.last_epoch, 0) for record in pruned)
    trained = sum(max(record.last_epoch, 0) for record in snapshot.counted)
    seconds = math.fsum(_seconds_left(record) for record in pruned)
    return (
        f"saved {counted(left, 'epoch')}, {share(left, left + trained)} of all epochs without pruning,"
        f" about {duration(seconds)} at the speed of the pruned trials"
    )


def _seconds_left(record: TrialRecord) -> float:
    epochs = max(record.last_epoch, 0)
    return (record.newest("cost/seconds") or 0.0) / epochs * (record.total_epochs - epochs) if epochs else 0.0


def _time_by_outcome(snapshot: Snapshot) -> str:
    """The time of training and evaluation, by the state of the trials."""
    groups = {s.word: [record for record in snapshot.counted if record.state == s] for s in STATES}
    groups["confirmation"] = list(snapshot.seeds)
    spent = {
        name: math.fsum(record.newest("cost/seconds") or 0.0 for record in group)
        for name, group in groups.items()
    }
    return ", ".join(f"{name} {duration(seconds)}" for name, seconds in spent.items() if seconds)


def _early_ends(snapshot: Snapshot) -> str:
    """The reasons of early ends, without the attempts that ended a failed trial, by count."""
    reasons = Counter(
        end.reason
        for record in snapshot.trainings
        for end in record.attempt_ends
        if not (record.state == State.FAIL and end.attempt == record.attempts)
    )
    return ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())


def _cost(snapshot: Snapshot) -> str:
    """The wall-clock time of all launches, and the training cost of all trials and seeds."""
    hours, macs = snapshot.total("cost/accelerator_hours"), snapshot.total("cost/train_macs")
    wall = f"{duration(snapshot.spent_s)} of wall-clock time"
    if snapshot.launches:
        wall += f" in {counted(len(snapshot.launches), 'launch', 'launches')}"
    return f"{wall}, {quantity(hours)} accelerator-hours, {quantity(macs)} MACs of training"
