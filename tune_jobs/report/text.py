"""Text output of a finished or running search: the printed result, and the summary for its MLflow run."""

import statistics
from collections import Counter
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tune_jobs.options import LaunchOptions
from tune_jobs.report.findings import answer
from tune_jobs.report.importance import parameter_importance
from tune_jobs.report.page.seeds import seed_table
from tune_jobs.search_folder import LIBRARY_LOG, REPORT
from tune_jobs.study.records import STATES, State, TrialRecord
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import counted, duration, shown_parameters, shown_place

NUM_BEST = 5


def result_metrics(snapshot: Snapshot) -> dict[str, float]:
    """Return the metrics of the search's parent run: best value, test metrics, number of trials by state."""
    metrics = {
        f"trials/{state.lower()}": float(sum(record.state == state for record in snapshot.counted))
        for state in State
    }
    winner, publication = snapshot.winner, snapshot.publication
    if winner is not None and winner.value is not None:
        metrics[snapshot.objective.metric] = winner.value  # same column as the trials' own in MLflow's table
        metrics["best/trial"] = float(winner.number)
    for best in snapshot.candidates[:1]:
        metrics |= {"confirm/mean": best.mean, "confirm/num_seeds": float(len(best.values))}
        if best.standard_deviation is not None:
            metrics["confirm/standard_deviation"] = best.standard_deviation
    return metrics | ({} if publication is None else publication["metrics"])


def print_result(
    console: Console, snapshot: Snapshot, folder: Path, *, tracking: str, options: LaunchOptions
) -> None:
    """Print the answer, the best trials, the final states with reasons, the encoder, and where the files are.

    If trials are confirmed, their means and standard deviations over the seeds follow the best trials.
    `options` are those of the command that resumes the search.
    """
    console.print()
    is_log = not console.is_terminal  # a log keeps long lines whole; a terminal wraps them between words
    for line in answer_lines(snapshot):
        console.print(line, markup=False, highlight=False, soft_wrap=is_log)
    console.print(_best_table(snapshot))
    if snapshot.candidates:
        console.print(_confirmed_table(snapshot))
    for line in ending_lines(snapshot):
        console.print(line, markup=False, highlight=False, soft_wrap=is_log)
    for line in (*_place_lines(snapshot, folder, tracking), *_next_lines(snapshot, folder, options)):
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def answer_lines(snapshot: Snapshot) -> tuple[str, ...]:
    """Return the answer of the search in sentences; empty without a winner.

    If the answer cannot be computed, the line gives the reason: an error here must not end a search.
    """
    try:
        found = answer(snapshot, parameter_importance(snapshot))
    except Exception as error:
        return (f"The answer could not be computed: {error!r}",)
    return () if found is None else found.lines()


def summary(snapshot: Snapshot) -> str:
    """Return the search as Markdown, for the description of its MLflow run."""
    metric = snapshot.objective.metric
    lines = [snapshot.description, "", *(f"- {line}" for line in answer_lines(snapshot))]
    lines += ["", f"| trial | {metric} | parameters |", "|---|---|---|"]
    lines += [
        f"| {r.number} | {r.value:.4f} | {shown_parameters(r.parameters)} |"
        for r in snapshot.complete[:NUM_BEST]
    ]
    if snapshot.candidates:
        found = seed_table(snapshot)
        table = (found.columns, ("---",) * len(found.columns), *found.rows)
        lines += ["", *("| " + " | ".join(row) + " |" for row in table)]
    return "\n".join([*lines, "", *(f"- {line}" for line in ending_lines(snapshot))])


def _best_table(snapshot: Snapshot) -> Table:
    table = Table(title=f"{snapshot.name}: best trials", title_justify="left")
    table.add_column("trial", justify="right")
    table.add_column(snapshot.objective.metric, justify="right")
    table.add_column("untrained", justify="right")
    table.add_column("epochs", justify="right")
    table.add_column("seconds", justify="right")
    table.add_column("parameters", overflow="fold")
    for record in snapshot.complete[:NUM_BEST]:
        table.add_row(*_best_row(record, snapshot.objective.metric))
    return table


def _best_row(record: TrialRecord, metric: str) -> tuple[str, ...]:
    first, last = record.epochs[0].metrics, record.epochs[-1].metrics
    return (
        str(record.number),
        f"{record.value:.4f}",
        f"{first[metric]:.4f}" if metric in first else "",
        str(record.last_epoch),
        f"{last.get('cost/seconds', 0.0):.0f}",
        shown_parameters(record.parameters),
    )


def _confirmed_table(snapshot: Snapshot) -> Table:
    found = seed_table(snapshot)
    table = Table(title=f"{snapshot.objective.metric} over seeds, best mean first", title_justify="left")
    for place, heading in enumerate(found.columns):
        table.add_column(heading, justify="right" if place in found.numbers else "left")
    for row in found.rows:
        table.add_row(*row)
    return table


def ending_lines(snapshot: Snapshot) -> list[str]:
    """Return the trials by state, with reasons, the range of the completed values, and each failure."""
    lines = []
    for state in STATES:
        group = [record for record in snapshot.counted if record.state == state]
        if group:
            reasons = Counter(record.reason for record in group if record.reason)
            why = ", ".join(f"{count} {reason}" for reason, count in reasons.most_common())
            numbers = ", ".join(str(record.number) for record in group)
            which = f"trial {numbers}" if len(group) == 1 else f"trials {numbers}"
            lines.append(f"{state.word}: {len(group)}{f' ({why})' if why else ''}: {which}")
    values = [record.value for record in snapshot.counted if record.value is not None]
    if len(values) == 1:
        lines.append(f"{snapshot.objective.metric} of the completed trial: {values[0]:.4f}")
    elif values:
        spread = f"{min(values):.4f} to {max(values):.4f}, median {statistics.median(values):.4f}"
        lines.append(f"{snapshot.objective.metric} of completed trials: {spread}")
    failed = [record for record in snapshot.trainings if record.state == State.FAIL]
    return lines + [f"trial {record.label} failed: {record.message}" for record in failed]


def _place_lines(snapshot: Snapshot, folder: Path, tracking: str) -> list[str]:
    """The winner and its encoder, the cost, and the places of the files, the report, the log and MLflow."""
    lines = []
    publication = snapshot.publication
    if publication is not None:
        figures = ", ".join(f"{name} {value:.4f}" for name, value in sorted(publication["metrics"].items()))
        lines.append(f"winner: trial {publication['trial']}: {figures}")
        lines.append(f"encoder: {snapshot.encoder}")
    lines.append(f"cost: {cost_line(snapshot)}")
    lines.append(f"files: {shown_place(folder)}")
    if (folder / REPORT).is_file():
        lines.append(f"report: {shown_place(folder / REPORT)}")
    if (folder / LIBRARY_LOG).is_file():
        lines.append(f"log: {shown_place(folder / LIBRARY_LOG)}")
    return [*lines, f"MLflow: {tracking}"]


def cost_line(snapshot: Snapshot) -> str:
    """Return the cost of the search: wall-clock time, training time of all runs, accelerator-hours."""
    num_runs = sum(bool(record.epochs) for record in snapshot.trainings)
    hours = snapshot.total("cost/accelerator_hours")
    accelerators = f", {hours:.2f} accelerator-hours" if hours else ""
    training = f"{duration(snapshot.total('cost/seconds'))} of training in {counted(num_runs, 'run')}"
    return f"{duration(snapshot.spent_s)} of wall-clock time; {training}{accelerators}"


def _next_lines(snapshot: Snapshot, folder: Path, options: LaunchOptions) -> list[str]:
    """The commands that the user may want to run next."""
    if not snapshot.is_over:
        return [f"next: {options.command()}   # resume, if no launcher is running"]
    lines = []
    # No more trials are possible in an exhausted space or with a spent budget.
    if len(snapshot.counted) >= snapshot.num_trials and snapshot.fixed["sampler"] != "brute_force":
        others = tuple(item for item in options.overrides if not item.startswith("search.num_trials="))
        more = replace(options, num_trials=2 * snapshot.num_trials, overrides=others)
        lines.append(f"{more.command()}   # more trials")
    if snapshot.winner is not None:
        space = shown_place(folder / "best.yaml")
        lines.append(f"{options.program} --space {space}   # train the winner again")
    return [f"{'next:' if index == 0 else '     '} {line}" for index, line in enumerate(lines)]
