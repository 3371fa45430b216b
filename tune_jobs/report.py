"""The study in words and tables: what a finished, or still running, search says to its user."""

import statistics
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tune_jobs.records import State, TrialRecord
from tune_jobs.selection import Candidate
from tune_jobs.space import SearchSpace
from tune_jobs.study import SearchStudy
from tune_jobs.wording import shown_parameters

NUM_BEST = 5
CONFIRMED_COLUMNS = ("trial", "mean", "standard deviation", "seeds", "values")


def result_metrics(study: SearchStudy, *, objective: str) -> dict[str, float]:
    """Return what the parent run shows of the whole search: the best value, the test figures, the counts."""
    records = [record for record in study.records() if record.counts]
    metrics = {f"trials/{state.lower()}": float(sum(r.state == state for r in records)) for state in State}
    winner, publication = study.winner(), study.publication()
    if winner is not None and winner.value is not None:
        metrics[objective] = winner.value  # beside the trials' own in the table
        metrics["best/trial"] = float(winner.number)
    for best in _confirmed(study)[:1]:
        metrics |= {"confirm/mean": best.mean, "confirm/num_seeds": float(len(best.values))}
        if best.standard_deviation is not None:
            metrics["confirm/standard_deviation"] = best.standard_deviation
    return metrics | ({} if publication is None else publication["metrics"])


def print_result(
    console: Console, study: SearchStudy, space: SearchSpace, folder: Path, *, tracking: str
) -> None:
    """Print the best trials, what was pruned and failed and why, the encoder, and where everything lies.

    Where trials are confirmed, their means and spreads over the seeds come after the best trials.
    """
    console.print()
    console.print(_best_table(study, space))
    if _confirmed(study):
        console.print(_confirmed_table(study, space))
    for line in _ending_lines(study, space):
        console.print(line, markup=False, highlight=False)
    for line in _place_lines(study, folder, tracking):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def summary(study: SearchStudy, space: SearchSpace) -> str:
    """Return the search as Markdown, for the description of its MLflow run."""
    metric = space.objective.metric
    lines = [space.description, "", f"| trial | {metric} | parameters |", "|---|---|---|"]
    lines += [
        f"| {r.number} | {r.value:.4f} | {shown_parameters(r.parameters)} |" for r in _best(study, space)
    ]
    if _confirmed(study):
        table = (CONFIRMED_COLUMNS, ("---",) * len(CONFIRMED_COLUMNS), *_confirmed_rows(study))
        lines += ["", *("| " + " | ".join(row) + " |" for row in table)]
    return "\n".join([*lines, "", *(f"- {line}" for line in _ending_lines(study, space))])


def _best(study: SearchStudy, space: SearchSpace) -> list[TrialRecord]:
    """The COMPLETE trials, best first, the lower number first on a tie."""
    sign = -1 if space.objective.direction == "maximize" else 1
    complete = [record for record in study.records() if record.value is not None]
    return sorted(complete, key=lambda r: (sign * (r.value or 0.0), r.number))[:NUM_BEST]


def _best_table(study: SearchStudy, space: SearchSpace) -> Table:
    table = Table(title=f"{space.name}: best trials", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(space.objective.metric, justify="right")
    table.add_column("untrained", justify="right")
    table.add_column("epochs", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("parameters", overflow="fold")
    for record in _best(study, space):
        first, last = record.epochs[0].metrics, record.epochs[-1].metrics
        table.add_row(
            str(record.number),
            f"{record.value:.4f}",
            f"{first[space.objective.metric]:.4f}" if space.objective.metric in first else "",
            str(record.last_epoch),
            f"{last.get('cost/seconds', 0.0):.0f}",
            shown_parameters(record.parameters),
        )
    return table


def _confirmed(study: SearchStudy) -> list[Candidate]:
    """The candidates of the confirmation, the best first; none before its first seed was begun."""
    confirmation = study.confirmation
    return confirmation.candidates() if confirmation is not None and confirmation.records() else []


def _confirmed_table(study: SearchStudy, space: SearchSpace) -> Table:
    table = Table(title=f"{space.objective.metric} over seeds, the best mean first", title_justify="left")
    for heading in CONFIRMED_COLUMNS:
        table.add_column(heading, justify="left" if heading == "values" else "right")
    for row in _confirmed_rows(study):
        table.add_row(*row)
    return table


def _confirmed_rows(study: SearchStudy) -> list[tuple[str, ...]]:
    """The candidates in the order of `CONFIRMED_COLUMNS`; a seed that failed or still trains has no value."""
    return [
        (
            str(found.trial.number),
            f"{found.mean:.4f}",
            "" if found.standard_deviation is None else f"{found.standard_deviation:.4f}",
            f"{len(found.values)} of {found.num_seeds}",
            "  ".join(f"{value:.4f}" for value in found.values),
        )
        for found in _confirmed(study)
    ]


def _ending_lines(study: SearchStudy, space: SearchSpace) -> list[str]:
    """How all trials ended, with their reasons, and how far the completed ones lie apart."""
    records = [record for record in study.records() if record.counts]
    lines = []
    for state in (State.COMPLETE, State.PRUNED, State.FAIL, State.RUNNING):
        group = [record for record in records if record.state == state]
        if group:
            reasons = Counter(record.reason for record in group if record.reason)
            why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            numbers = ", ".join(str(record.number) for record in group)
            lines.append(
                f"{state.lower()}: {len(group)}" + (f" ({why})" if why else "") + f": trials {numbers}"
            )
    values = [record.value for record in records if record.value is not None]
    if values:
        spread = f"{min(values):.4f} to {max(values):.4f}, median {statistics.median(values):.4f}"
        lines.append(f"{space.objective.metric} of completed trials: {spread}")
    failed = [record for record in study.all_records() if record.counts and record.state == State.FAIL]
    return lines + [f"trial {record.label} failed: {record.message}" for record in failed]


def _place_lines(study: SearchStudy, folder: Path, tracking: str) -> list[str]:
    """The registered encoder, the folder, and where MLflow is."""
    lines = []
    publication = study.publication()
    if publication is not None:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in sorted(publication["metrics"].items()))
        lines.append(f"winner: trial {publication['trial']}: {figures}")
        version = f"models:/{publication['model']}/{publication['version']}"
        lines.append(f"encoder: {version} ({publication['alias']}: {publication['why']})")
    return [*lines, f"files: {folder}", f"MLflow: {tracking}"]
