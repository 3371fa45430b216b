"""`--dry-run`: print what a search would do, as plain text, without starting anything."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from selfcon.values import shown
from tune_jobs.checkpoints.size import max_checkpoint_bytes, max_total_bytes
from tune_jobs.cluster.concurrency import trials_at_once
from tune_jobs.cluster.resources import machine_resources
from tune_jobs.commands.space_tree import counts, space_tree
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters
from tune_jobs.space.start_points import StartPoint
from tune_jobs.study.pruning import rungs

NUM_EXAMPLES = 3
TO_START = "To start it, and to resume it after a stop"
TO_RESUME = "To resume it, or to see its result"
_WIDTH = 100
_LABEL = 12


def dry_run(space: SearchSpace, options: LaunchOptions, *, taken: Sequence[StartPoint] = ()) -> str:
    """Return the settings of the search, what it explores, how many trials run at once, and its command.

    `taken` holds the best trials of another search, with which this one would start.
    """
    num_trials = options.num_trials or space.search.num_trials
    started = is_started(space, options)
    lines = [
        *_labelled("search", space.name),
        *_labelled("", space.description),
        *_labelled("objective", _objectives(space)),
        *_labelled("feasible", _constraints(space)),
        *_labelled("trials", f"{num_trials}, suggested by {space.search.sampler}, seed {space.search.seed}"),
        *_labelled("budget", _budget(space)),
        *_labelled("pruner", _pruner(space)),
        *_labelled("confirm", _confirm(space, num_trials)),
        *_labelled("concurrent", _concurrent(space, options)),
        *_labelled("disk", _disk(space, options)),
        *_labelled("experiment", space.tracking.experiment),
        *_labelled("registers", space.tracking.registered_model),
        *_labelled("folder", f"{options.output / space.name}{' (already started)' if started else ''}"),
        *_section(f"explored: {counts(space)}", space_tree(space)),
        *_section("never tried", [_settings(entry, " with ") for entry in space.forbid]),
        *_section("tried first", _first(space) + _taken(space, taken)),
        *_section("fixed (everything else has its default)", _table(dict(space.train))),
        *_section("example configurations", _examples(space)),
        "",
        f"Nothing was started. {TO_RESUME if started else TO_START}:",
        f"  {options.command()}",
    ]
    return "\n".join(lines)


def is_started(space: SearchSpace, options: LaunchOptions) -> bool:
    """Return whether the folder of the search exists."""
    return (options.output / space.name).is_dir()


def _labelled(label: str, text: str) -> list[str]:
    """A label and next to it a text, wrapped."""
    lines = textwrap.wrap(text, _WIDTH - _LABEL)
    return [f"{label if i == 0 else '':<{_LABEL}}{line}" for i, line in enumerate(lines)]


def _section(title: str, lines: list[str]) -> list[str]:
    return ["", title, *(f"  {line}" for line in lines)] if lines else []


def _table(values: Mapping[str, Any]) -> list[str]:
    width = max(map(len, values), default=0)
    return [f"{name:<{width}}  {shown(value)}" for name, value in values.items()]


def _settings(values: Mapping[str, Any], separator: str = ", ") -> str:
    return separator.join(f"{name} {_short(value)}" for name, value in values.items())


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else shown(value)


def _first(space: SearchSpace) -> list[str]:
    return [_settings(point.given) for point in space.start]


def _taken(space: SearchSpace, taken: Sequence[StartPoint]) -> list[str]:
    """The trials of another search with which this one starts, or started."""
    if space.start_from is not None and not taken:
        return [f"the best trials of {space.start_from} when this search was started"]
    return [f"{_settings(point.given)}   of {space.start_from}" for point in taken]


def _objectives(space: SearchSpace) -> str:
    objectives = " and ".join(f"{objective.direction} {objective.metric}" for objective in space.objectives)
    return objectives + ("; the first decides pruning and the winner" if len(space.objectives) > 1 else "")


def _constraints(space: SearchSpace) -> str:
    return " and ".join(
        f"{constraint.metric} at least {constraint.min:g}"
        if constraint.max is None
        else f"{constraint.metric} at most {constraint.max:g}"
        for constraint in space.constraints
    )


def _budget(space: SearchSpace) -> str:
    time, hours = space.search.time_budget, space.search.accelerator_hours
    unused = " (these trials use no accelerator)" if not space.trial.gpus_per_worker else ""
    budgets = [
        "" if time is None else f"{time if isinstance(time, str) else f'{time:g} s'} over all launches",
        "" if hours is None else f"{hours:g} accelerator-hours{unused}",
    ]
    return " and ".join(filter(None, budgets))


def _pruner(space: SearchSpace) -> str:
    pruner, kind = space.pruner, space.pruner.kind.replace("_", " ")
    if pruner.kind == "none":
        return "none: every trial trains for all its epochs"
    epochs = max(values["optim.epochs"] for values in space.tree.combinations(["optim.epochs"]))
    first, best = pruner.min_epochs, f"the best 1/{pruner.reduction_factor} continue"
    if first >= epochs:
        return f"{kind} would first prune after epoch {first}, but training ends at epoch {epochs}"
    if pruner.kind == "median":
        return f"{kind}: from epoch {first} of {epochs} on, trials worse than the median are pruned"
    if pruner.kind == "hyperband":
        return f"{kind}: first rungs at epoch {first} of {epochs} or later, {best}"
    at_rungs = " and ".join(map(str, rungs(pruner, epochs=epochs)))
    return f"{kind}: after epoch {at_rungs} of {epochs}, {best}"


def _confirm(space: SearchSpace, num_trials: int) -> str:
    confirm, more = space.confirm, _num_confirming(space, num_trials)
    if confirm is None:
        return ""
    return f"the best {confirm.top_k} are trained with {confirm.seeds} seeds each: at most {more} more runs"


def _num_confirming(space: SearchSpace, num_trials: int) -> int:
    """Maximum number of runs that the confirmation adds: the first seed of each is the trial itself."""
    confirm = space.confirm
    return 0 if confirm is None else min(confirm.top_k, num_trials) * (confirm.seeds - 1)


def _concurrent(space: SearchSpace, options: LaunchOptions) -> str:
    limit = space.search.max_concurrent
    if options.address is not None:
        at_most = "" if limit == "auto" else f", at most {limit} (search.max_concurrent)"
        return f"as many as fit on the cluster at {options.address} when the search runs{at_most}"
    fit = trials_at_once([machine_resources()], space.trial, limit=limit)
    return f"{fit.count} on this machine: {fit.arithmetic}"


def _disk(space: SearchSpace, options: LaunchOptions) -> str:
    return (
        f"at most {_megabytes(most_disk_bytes(space, options))} of checkpoints (at most"
        f" {_megabytes(max_checkpoint_bytes(space))} each), plus a few MB of records and logs"
    )


def most_disk_bytes(space: SearchSpace, options: LaunchOptions) -> int:
    """Return the maximum size of a search's checkpoints at any moment, in bytes, with these flags."""
    num_trials, limit = options.num_trials or space.search.num_trials, space.search.max_concurrent
    trainings = num_trials + _num_confirming(space, num_trials)
    at_once = trainings if limit == "auto" else limit
    if options.address is None:
        at_once = min(at_once, trials_at_once([machine_resources()], space.trial).count)
    return max_total_bytes(space, num_trials=num_trials, num_trainings=trainings, max_concurrent=at_once)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e7 else f"{num_bytes / 1e6:.1f} MB"


def _examples(space: SearchSpace) -> list[str]:
    examples = [_settings(parameters) for parameters in example_parameters(space, NUM_EXAMPLES)]
    return list(dict.fromkeys(examples))  # a small space yields duplicates
