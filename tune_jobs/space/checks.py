"""Checks of a search-space file that depend on several of its entries."""

import itertools
from collections.abc import Mapping
from typing import Any, NoReturn

from selfcon.config import RULES, Rule
from selfcon.errors import ConfigError
from selfcon.values import shown
from tune_jobs.errors import BadInputError
from tune_jobs.space.conditions import MAX_COMBINATIONS, Parameters
from tune_jobs.space.domains import Choices, FloatRange
from tune_jobs.space.field_reader import train_node
from tune_jobs.space.metric_checks import check_metrics
from tune_jobs.space.parameter_reader import branch_nodes
from tune_jobs.space.settings import Settings
from tune_jobs.space.yaml_file import Node

# Samplers for which optuna 5.0.0 raises an error with several objectives. cmaes accepts choices and
# conditional parameters, but samples them at random.
ONE_OBJECTIVE_ONLY = ("cmaes",)
FINITE_ONLY = ("brute_force",)


def check_space(root: Node, parameters: Parameters, settings: Settings) -> None:
    """Raise `BadInputError` for the first invalid combination of entries."""
    check_branches(root, parameters)
    for rule in RULES:
        check_rule(root, parameters, rule)
    check_metrics(root, parameters, settings)
    check_sampler(root, parameters, settings)
    check_workers(root, parameters, settings)


def check_branches(root: Node, parameters: Parameters) -> None:
    """Raise `BadInputError` for a branch that no configuration reaches."""
    for name in parameters.branches:
        index = _unreached_branch(parameters, name)
        if index is not None:
            node = branch_nodes(_parameter_nodes(root)[name])[index]
            node.refuse("a branch that at least one configuration reaches", "an unreachable branch")


def _unreached_branch(parameters: Parameters, name: str) -> int | None:
    """Return the index of the first unreachable branch, or None if all are reachable.

    Also None when there are more than `MAX_COMBINATIONS` configurations to look at.
    """
    missing = set(range(len(parameters.branches[name])))
    for count, values in enumerate(parameters.combinations(parameters.controllers(name)), start=1):
        missing -= {parameters.active(name, values)}
        if not missing or count == MAX_COMBINATIONS:
            return None
    return min(missing, default=None)


def check_rule(root: Node, parameters: Parameters, rule: Rule) -> None:
    """Raise `BadInputError` for a possible combination of values that violates a rule of `TrainConfig`."""
    for values in itertools.islice(parameters.combinations(rule.fields), MAX_COMBINATIONS):
        broken = rule.violation(*(values[name] for name in rule.fields))
        if broken:
            name, expected, got = broken
            others = [
                f"{other} {shown(values[other])}"
                for other in rule.fields
                if other != name and other in parameters.branches
            ]
            together = f" with {', '.join(others)}" if others else ""
            _refuse_combination(root, parameters, rule, values, ConfigError(name, expected, got + together))


def check_sampler(root: Node, parameters: Parameters, settings: Settings) -> None:
    """Raise `BadInputError` for a sampler that does not support several objectives or continuous ranges."""
    sampler = settings.search.sampler
    if sampler in ONE_OBJECTIVE_ONLY and len(settings.objectives) > 1:
        node = root.mapping()["search"].mapping()["sampler"]
        node.refuse(f"a sampler for {len(settings.objectives)} objectives, such as tpe")
    if sampler in FINITE_ONLY:
        for name, branches in parameters.branches.items():
            for branch, node in zip(branches, branch_nodes(_parameter_nodes(root)[name]), strict=True):
                if isinstance(branch.domain, FloatRange) and branch.domain.step is None:
                    node.refuse(f"choices, or a range with a step, because {sampler} tries every value")


def check_workers(root: Node, parameters: Parameters, settings: Settings) -> None:
    """Raise `BadInputError` if a global batch has fewer images than a trial has workers."""
    num_workers = settings.trial.max_workers
    for values in itertools.islice(parameters.combinations(["optim.global_batch_size"]), MAX_COMBINATIONS):
        batch = values["optim.global_batch_size"]
        if num_workers > batch:
            node = root.mapping()["trial"].mapping()["num_workers"]
            node.refuse(f"at most one worker for each of the {batch} images of optim.global_batch_size")


def _parameter_nodes(root: Node) -> Mapping[str, Node]:
    return root.mapping()["space"].mapping()


def _refuse_combination(
    root: Node, parameters: Parameters, rule: Rule, values: Mapping[str, Any], error: ConfigError
) -> NoReturn:
    """Raise `error` at the position of its field, or of another field of the rule if its own is a default.

    The file always sets at least one field of the rule, because the defaults together violate no rule.
    """
    node = _value_node(root, parameters, error.key, values)
    if node is not None:
        node.refuse_with(error)
    others = (_value_node(root, parameters, field, values) for field in rule.fields)
    place = next(other.place for other in others if other is not None)
    raise BadInputError(f"{place}: {error}")


def _value_node(root: Node, parameters: Parameters, name: str, values: Mapping[str, Any]) -> Node | None:
    """Return the node that gives a field its value in a configuration, or None for a default."""
    index = parameters.active(name, values) if name in parameters.branches else None
    if index is None:
        return train_node(root, name)
    domain = parameters.branches[name][index].domain
    items = branch_nodes(_parameter_nodes(root)[name])[index].mapping()
    if isinstance(domain, Choices):
        return items["choices"].sequence()[domain.values.index(values[name])]
    return items["low" if values[name] == domain.low else "high"]
