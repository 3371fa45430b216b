"""The study in words and tables: what a finished, or still running, search says to its user."""

import statistics
from collections import Counter
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tune_jobs.console import shown_parameters
from tune_jobs.records import State, TrialRecord
from tune_jobs.space import SearchSpace
from tune_jobs.study import SearchStudy

NUM_BEST = 5


def result_metrics(study: SearchStudy, *, objective: str) -> dict[str, float]:
    """Return what the parent run shows of the whole search: the best value, the test figures, the counts."""
    records = [record for record in study.records() if record.counts]
    metrics = {f"trials/{state.lower()}": float(sum(r.state == state for r in records)) for state in State}
    winner, publication = study.winner(), study.publication()
    if winner is not None and winner.value is not None:
        metrics[objective] = winner.value  # beside the trials' own in the table
        metrics["best/trial"] = float(winner.number)
    return metrics | ({} if publication is None else publication["metrics"])


def print_result(
    console: Console, study: SearchStudy, space: SearchSpace, folder: Path, *, tracking: str
) -> None:
    """Print the best trials, what was pruned and failed and why, the encoder, and where everything lies."""
    console.print()
    console.print(_best_table(study, space))
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
    lines += [f"trial {r.number} failed: {r.message}" for r in records if r.state == State.FAIL]
    return lines


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
