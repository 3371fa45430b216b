"""Checks of objectives and constraints: every trial reports their metrics, and bounds are attainable."""

import itertools
import math
from collections import defaultdict

from selfcon.errors import nearest
from selfcon.values import shown
from tune_jobs.space.conditions import MAX_COMBINATIONS, Parameters
from tune_jobs.space.metrics import DECISIVE, EXIT_TOP1, exit_of, is_cost, limits, rejection_reason
from tune_jobs.space.settings import Settings
from tune_jobs.space.settings_reader import constraint_nodes, objective_nodes
from tune_jobs.space.yaml_file import Node


def check_metrics(root: Node, parameters: Parameters, settings: Settings) -> None:
    """Raise `BadInputError` for the first invalid objective or constraint."""
    check_objectives(objective_nodes(root.mapping().get("objective")), parameters, settings)
    check_constraints(constraint_nodes(root.mapping().get("constraints")), parameters, settings)


def check_objectives(nodes: list[Node], parameters: Parameters, settings: Settings) -> None:
    """Raise `BadInputError` for an unsuitable or repeated metric, or a cost without a direction."""
    seen: set[str] = set()
    for node, objective in zip(nodes, settings.objectives, strict=False):  # no node for the default
        items, metric = node.mapping(), objective.metric
        place = items.get("metric", node)
        _check_metric(place, metric, parameters)
        if metric in seen:
            place.refuse("each metric once", f"{metric} again")
        if is_cost(metric) and "direction" not in items:
            node.refuse(f"a direction for {metric}: maximize or minimize")
        seen.add(metric)


def check_constraints(nodes: list[Node], parameters: Parameters, settings: Settings) -> None:
    """Raise `BadInputError` for an unsuitable metric, an unattainable bound, or contradictory bounds."""
    bounds: dict[str, dict[str, float]] = defaultdict(dict)
    for node, constraint in zip(nodes, settings.constraints, strict=True):
        items, metric = node.mapping(), constraint.metric
        _check_metric(items["metric"], metric, parameters)
        word, bound = ("min", constraint.min) if constraint.max is None else ("max", constraint.max)
        assert bound is not None
        low, high = limits(metric)
        if not low <= bound <= high:
            words = f"a fraction from {low:g} to {high:g}" if high < math.inf else f"at least {low:g}"
            items[word].refuse(f"a possible value of {metric}, {words}")
        if word in bounds[metric]:
            items[word].refuse(f"one {word} for {metric}", "another")
        bounds[metric][word] = bound
        if not bounds[metric].get("min", -math.inf) <= bounds[metric].get("max", math.inf):
            items[word].refuse(f"a {word} that is compatible with the other bound of {metric}")


def _check_metric(node: Node, metric: str, parameters: Parameters) -> None:
    """Raise `BadInputError` for a metric that not every configuration reports, or that is unsuitable."""
    if metric in DECISIVE:
        return
    reason = rejection_reason(metric)
    if reason:
        node.refuse(reason)
    stage = exit_of(metric)
    if stage is None:
        node.refuse(f"a metric that training reports: {', '.join((*DECISIVE, EXIT_TOP1))}",
                    hint=nearest(metric, DECISIVE))  # fmt: skip
    for values in itertools.islice(parameters.combinations(["model.exit_stages"]), MAX_COMBINATIONS):
        if stage not in values["model.exit_stages"]:
            without = shown(values["model.exit_stages"])
            node.refuse(
                "the metric of an exit that every configuration has",
                f"{metric}, which model.exit_stages {without} does not report",
            )
