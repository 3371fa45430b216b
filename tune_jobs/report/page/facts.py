"""What was searched, with what, and how far it is; and the winner's figures."""

from tune_jobs.report.page.section import Table
from tune_jobs.report.page.words import moment, quantity
from tune_jobs.study.records import STATES, State
from tune_jobs.study.selection import spelled
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import counted, duration, parameter_text


def facts(snapshot: Snapshot) -> Table:
    """Return what there is to know of the search as a whole, a line for each fact."""
    rows = [
        ("state", _state(snapshot)),
        ("objective", "; ".join(f"{o.direction} {o.metric}" for o in snapshot.objectives)),
        ("constraints", "; ".join(spelled(constraint) for constraint in snapshot.constraints)),
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
        ("this page", f"shows the search as of {moment(snapshot.taken_ms)}"),
    ]
    return Table(("fact", "value"), tuple((name, text) for name, text in rows if text))


def figures_on_test(snapshot: Snapshot) -> Table | None:
    """Return the winner's figures on the test set; None before it is registered."""
    publication = snapshot.publication
    if publication is None:
        return None
    rows = tuple((name, f"{value:.4f}") for name, value in sorted(publication["metrics"].items()))
    return Table((f"test, trial {publication['trial']}", "value"), rows)


def winner_parameters(snapshot: Snapshot) -> Table | None:
    """Return what the search chose for the winner; None without a winner."""
    winner = snapshot.winner
    if winner is None:
        return None
    rows = tuple((name, parameter_text(value)) for name, value in winner.parameters.items())
    return Table((f"chosen, trial {winner.label}", "value"), rows)


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


def _cost(snapshot: Snapshot) -> str:
    """The wall time of all launches, and what the training of all trials and seeds took."""
    hours, macs = snapshot.total("cost/accelerator_hours"), snapshot.total("cost/train_macs")
    wall = f"{duration(snapshot.spent_s)} of wall time"
    if snapshot.launches:
        wall += f" in {counted(len(snapshot.launches), 'launch', 'launches')}"
    return f"{wall}, {quantity(hours)} accelerator-hours, {quantity(macs)} MACs of training"
