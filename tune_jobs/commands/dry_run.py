"""The dry run: what a search would do, in plain text, without starting anything."""

import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from selfcon.values import shown
from tune_jobs.checkpoints.size import most_bytes, most_checkpoint_bytes
from tune_jobs.cluster.resources import machine_resources, trials_at_once
from tune_jobs.commands.space_tree import counts, space_tree
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters
from tune_jobs.space.start_points import StartPoint
from tune_jobs.study.pruning import rungs

NUM_EXAMPLES = 3
TO_BEGIN = "To start it, and to go on whenever it stopped"
TO_GO_ON = "To go on with it, or to see its result"
_WIDTH = 100
_LABEL = 12


def dry_run(space: SearchSpace, options: LaunchOptions, *, taken: Sequence[StartPoint] = ()) -> str:
    """Return what the search is, what it would try, how much at once and why, and how to start it.

    `taken` are the trials of another search that it would begin with.
    """
    num_trials = options.num_trials or space.search.num_trials
    begun = is_begun(space, options)
    lines = [
        *_labelled("search", space.name),
        *_labelled("", space.description),
        *_labelled("objective", _objectives(space)),
        *_labelled("feasible", _constraints(space)),
        *_labelled("trials", f"{num_trials}, suggested by {space.search.sampler}, seed {space.search.seed}"),
        *_labelled("budget", _budget(space)),
        *_labelled("pruner", _pruner(space)),
        *_labelled("confirm", _confirm(space, num_trials)),
        *_labelled("at once", _at_once(space, options)),
        *_labelled("disk", _disk(space, options)),
        *_labelled("experiment", space.tracking.experiment),
        *_labelled("registers", space.tracking.registered_model),
        *_labelled("state in", f"{options.output / space.name}{', where it was begun' if begun else ''}"),
        *_section(f"explored: {counts(space)}", space_tree(space)),
        *_section("never tried", [_settings(entry, " with ") for entry in space.forbid]),
        *_section("tried first", _first(space) + _taken(space, taken)),
        *_section("fixed (all else has its default)", _table(dict(space.train))),
        *_section("examples of what may be tried", _examples(space)),
        "",
        f"Nothing was started. {TO_GO_ON if begun else TO_BEGIN}:",
        f"  {options.command()}",
    ]
    return "\n".join(lines)


def is_begun(space: SearchSpace, options: LaunchOptions) -> bool:
    """Return whether a search of this name has its folder already."""
    return (options.output / space.name).is_dir()


def _labelled(label: str, text: str) -> list[str]:
    """A label and a text beside it, wrapped."""
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
    """The trials of another search that this one begins with, or began with."""
    if space.start_from is not None and not taken:
        return [f"the best trials of {space.start_from} when this search began"]
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
    idle = ", of which these trials take none" if not space.trial.gpus_per_worker else ""
    budgets = [
        "" if time is None else f"{time if isinstance(time, str) else f'{time:g} s'} over all launches",
        "" if hours is None else f"{hours:g} accelerator-hours{idle}",
    ]
    return " and ".join(filter(None, budgets))


def _pruner(space: SearchSpace) -> str:
    pruner, kind = space.pruner, space.pruner.kind.replace("_", " ")
    if pruner.kind == "none":
        return "none: every trial trains all its epochs"
    epochs = max(values["optim.epochs"] for values in space.tree.combinations(["optim.epochs"]))
    first, best = pruner.min_epochs, f"the best 1/{pruner.reduction_factor} go on"
    if first >= epochs:
        return f"{kind} would judge after epoch {first}, but training ends with {epochs}"
    if pruner.kind == "median":
        return f"{kind}: from epoch {first} of {epochs} on, what is behind the median of the others ends"
    if pruner.kind == "hyperband":
        return f"{kind}: in brackets that begin to judge at epoch {first} of {epochs} or later, {best}"
    judged = " and ".join(map(str, rungs(pruner, epochs=epochs)))
    return f"{kind}: after epoch {judged} of {epochs} {best}"


def _confirm(space: SearchSpace, num_trials: int) -> str:
    confirm, more = space.confirm, _num_confirming(space, num_trials)
    if confirm is None:
        return ""
    return (
        f"the best {confirm.top_k} are trained over {confirm.seeds} seeds each: at most {more} more trainings"
    )


def _num_confirming(space: SearchSpace, num_trials: int) -> int:
    """How many trainings the confirmation adds at most: the first seed of each is the trial itself."""
    confirm = space.confirm
    return 0 if confirm is None else min(confirm.top_k, num_trials) * (confirm.seeds - 1)


def _at_once(space: SearchSpace, options: LaunchOptions) -> str:
    limit = space.search.max_concurrent
    at_most = "" if limit == "auto" else f", at most {limit} (search.max_concurrent)"
    if options.address is not None:
        return f"not asked: as many as the cluster at {options.address} holds when it runs{at_most}"
    fit = trials_at_once([machine_resources()], space.trial)
    count = fit.count if limit == "auto" else min(fit.count, limit)
    return f"{count} on this machine: {fit.arithmetic}{at_most}"


def _disk(space: SearchSpace, options: LaunchOptions) -> str:
    return (
        f"at most {_megabytes(most_disk_bytes(space, options))} of checkpoints of at most"
        f" {_megabytes(most_checkpoint_bytes(space))} each, and some MB of records and logs"
    )


def most_disk_bytes(space: SearchSpace, options: LaunchOptions) -> int:
    """Return how much the checkpoints of a search take at most at any moment, with these flags."""
    num_trials, limit = options.num_trials or space.search.num_trials, space.search.max_concurrent
    trainings = num_trials + _num_confirming(space, num_trials)
    at_once = trainings if limit == "auto" else limit
    if options.address is None:
        at_once = min(at_once, trials_at_once([machine_resources()], space.trial).count)
    return most_bytes(space, num_trials=num_trials, num_trainings=trainings, at_once=at_once)


def _megabytes(num_bytes: int) -> str:
    return f"{num_bytes / 1e6:,.0f} MB" if num_bytes >= 1e7 else f"{num_bytes / 1e6:.1f} MB"


def _examples(space: SearchSpace) -> list[str]:
    drawn = [_settings(parameters) for parameters in example_parameters(space, NUM_EXAMPLES)]
    return list(dict.fromkeys(drawn))  # a space may have fewer
