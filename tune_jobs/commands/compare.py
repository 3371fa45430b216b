"""`--compare A B ...`: print searches side by side, each read from its study alone."""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rich.console import Console
from rich.table import Table

from selfcon.errors import ConfigError
from tune_jobs.commands.other_searches import read_search
from tune_jobs.errors import BadInputError
from tune_jobs.intervals import Z_95
from tune_jobs.options import LaunchOptions
from tune_jobs.report.importance import parameter_importance
from tune_jobs.report.noise import interval, seed_deviation, variance_around
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.selection import Candidate
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.terminal.quiet import quiet_libraries
from tune_jobs.wording import duration, shown_value

MIN_COMPARED = 2


def compare_searches(options: LaunchOptions) -> int:
    """Print the searches side by side, and whether their best values differ by more than chance; return 0.

    Raises `BadInputError` if a search does not exist, or used other data or another objective than the first.
    """
    quiet_libraries()
    snapshots = [read_search(name, options, key="--compare") for name in options.compare]
    refuse_incomparable(snapshots)
    console = Console(file=sys.stdout, soft_wrap=True)
    console.print(side_by_side(snapshots))
    console.print(verdict(snapshots), markup=False, highlight=False)
    return 0


def refuse_incomparable(snapshots: Sequence[Snapshot]) -> None:
    """Raise `BadInputError` unless all searches have the same data and the same objective."""
    first = snapshots[0]
    for other in snapshots[1:]:
        for what, one, another in (
            ("data", first.fixed["data_digest"][:12], other.fixed["data_digest"][:12]),
            ("objective", _objective(first), _objective(other)),
        ):
            if one != another:
                expected = f"searches with the same {what} as {first.name} ({one})"
                raise BadInputError(str(ConfigError("--compare", expected, f"{another} of {other.name}")))


def side_by_side(snapshots: Sequence[Snapshot]) -> Table:
    """Return a table with one column per search: best value with its interval, cost, parameter importance."""
    table = Table(show_lines=False)
    table.add_column("")
    for snapshot in snapshots:
        table.add_column(snapshot.name, overflow="fold")
    columns = [_facts(snapshot) for snapshot in snapshots]
    importances = [parameter_importance(snapshot) for snapshot in snapshots]
    for label in columns[0]:
        table.add_row(label, *(column[label] for column in columns))
    table.add_section()
    for name in dict.fromkeys(name for snapshot in snapshots for name in snapshot.space):
        pairs = zip(snapshots, importances, strict=True)
        table.add_row(name, *(_parameter(name, snapshot, shares) for snapshot, shares in pairs))
    return table


def verdict(snapshots: Sequence[Snapshot]) -> str:
    """Return which search has the best value, and whether the difference to the second exceeds chance.

    The variances of both values are added. A value is a mean over seeds, or a single value, which is biased
    because it was selected as the best.
    """
    bests = [best for best in map(_best, snapshots) if best is not None]
    if len(bests) < MIN_COMPARED:
        return "fewer than two of the searches have a completed, feasible trial"
    sign = -1 if snapshots[0].maximize else 1
    first, second = sorted(bests, key=lambda best: sign * best.value)[:MIN_COMPARED]
    gap = abs(first.value - second.value)
    line = f"{first.snapshot.name} is ahead of {second.snapshot.name} by {gap:.4f}"
    deviations = [seed_deviation(best.snapshot.candidates) for best in (first, second)]
    known = next((deviation for deviation in deviations if deviation is not None), None)
    variances = [
        variance_around(best.snapshot, best.value, num_seeds=best.num_seeds, deviation=known)
        for best in (first, second)
    ]
    if None in variances:
        return f"{line}; whether that exceeds chance is unknown"
    bound = Z_95 * math.sqrt(sum(variance or 0.0 for variance in variances))
    single = [best.snapshot.name for best in (first, second) if best.num_seeds == 1]
    caveat = f"; {single[0]} was not confirmed over seeds" if len(single) == 1 else ""
    return f"{line}, which is {'more than' if gap > bound else 'within'} chance ({bound:.4f}){caveat}"


@dataclass(frozen=True)
class _Best:
    snapshot: Snapshot
    value: float
    num_seeds: int


def _best(snapshot: Snapshot) -> _Best | None:
    """The value of the winner of a search: its mean over seeds if it was confirmed, else its own value."""
    winner = snapshot.winner
    if winner is None or winner.value is None:
        return None
    confirmed = next(iter(_confirmed(snapshot, winner)), None)
    if confirmed is None:
        return _Best(snapshot, winner.value, 1)
    return _Best(snapshot, confirmed.mean, len(confirmed.values))


def _facts(snapshot: Snapshot) -> dict[str, str]:
    counts = {state: sum(r.state == state for r in snapshot.counted) for state in State}
    winner, publication = snapshot.winner, snapshot.publication
    tested = {} if publication is None else publication["metrics"]
    return {
        "state": "running or interrupted" if not snapshot.is_over else "ended",
        "trials": ", ".join(f"{count} {state.word}" for state, count in counts.items() if count),
        f"best {snapshot.objective.metric}": "" if winner is None else _shown_best(snapshot, winner),
        "trial": "" if winner is None else str(winner.number),
        "test/top1": f"{tested['test/top1']:.4f}" if "test/top1" in tested else "",
        "wall time": duration(snapshot.spent_s),
        "training time": duration(snapshot.total("cost/seconds")),
        "accelerator-hours": f"{snapshot.total('cost/accelerator_hours'):.2f}",
        "train MACs": f"{snapshot.total('cost/train_macs'):.3g}",
        "sampler, pruner": f"{snapshot.fixed['sampler']}, {snapshot.pruner.kind.replace('_', ' ')}",
    }


def _shown_best(snapshot: Snapshot, winner: TrialRecord) -> str:
    for candidate in _confirmed(snapshot, winner):
        spread = candidate.standard_deviation
        around = "" if spread is None else f" ± {spread:.4f}"
        return f"{candidate.mean:.4f}{around} over {len(candidate.values)} seeds"
    assert winner.value is not None
    found = interval(snapshot, winner.value)
    return f"{winner.value:.4f}" + ("" if found is None else f" ({found[0]:.4f} to {found[1]:.4f})")


def _confirmed(snapshot: Snapshot, winner: TrialRecord) -> list[Candidate]:
    return [one for one in snapshot.candidates if one.trial.number == winner.number]


def _parameter(name: str, snapshot: Snapshot, shares: Mapping[str, float]) -> str:
    """The value of a parameter in the best trial, with its importance, or `fixed` if it is not searched."""
    winner = snapshot.winner
    if winner is None or winner.config is None:
        return ""
    value = shown_value(winner.config[name])
    if name not in snapshot.space:
        return f"{value} (fixed)"
    return f"{value} (importance {shares[name]:.2f})" if name in shares else value


def _objective(snapshot: Snapshot) -> str:
    return f"{snapshot.objective.direction} {snapshot.objective.metric}"
