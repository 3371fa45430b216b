"""Reader of the settings sections of a search-space file; errors have the position of the invalid value."""

from collections.abc import Mapping
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from selfcon.validation import explain
from tune_jobs.errors import BadInputError
from tune_jobs.space.settings import (
    PRUNER_FIELDS,
    ConfirmSettings,
    Constraint,
    Objective,
    PrunerSettings,
    SearchSettings,
    Settings,
    TrackingSettings,
    TrialSettings,
)
from tune_jobs.space.yaml_file import Node

S = TypeVar("S", bound=BaseModel)


def read_settings(root: Mapping[str, Node], *, name: str, dataset: str) -> Settings:
    """Return the settings sections of a file; omitted settings have their defaults.

    `name` (of the search) and `dataset` give the defaults of `tracking`. Raises `BadInputError` for an
    unknown key and for a malformed or out-of-range value.
    """
    objectives = tuple(_section(Objective, node) for node in objective_nodes(root.get("objective")))
    return Settings(
        objectives=objectives or (Objective(),),
        constraints=tuple(_constraint(node) for node in constraint_nodes(root.get("constraints"))),
        search=_section(SearchSettings, root.get("search")),
        pruner=_pruner(root.get("pruner")),
        confirm=_section(ConfirmSettings, root["confirm"]) if "confirm" in root else None,
        trial=_section(TrialSettings, root.get("trial")),
        tracking=_section(
            TrackingSettings,
            root.get("tracking"),
            defaults={"experiment": name, "registered_model": f"selfcon-{dataset}"},
        ),
    )


def objective_nodes(node: Node | None) -> list[Node]:
    """Return the nodes of the objectives: one for a mapping, none if the file has no objective."""
    if node is None or not isinstance(node.value, list):
        return [node] if node else []
    return node.value if len(node.value) > 1 else node.refuse("{metric, direction}, or a list of two or more")


def constraint_nodes(node: Node | None) -> list[Node]:
    """Return the nodes of the constraints."""
    return node.sequence("a list of {metric, max} or {metric, min}") if node else []


def _constraint(node: Node) -> Constraint:
    constraint = _section(Constraint, node)
    if (constraint.max is None) == (constraint.min is None):
        node.refuse("a metric with either max or min")
    return constraint


def _pruner(node: Node | None) -> PrunerSettings:
    pruner = _section(PrunerSettings, node)
    items = node.mapping() if node else {}
    if node and items and "kind" not in items:
        node.refuse(f"a kind, one of {', '.join(PRUNER_FIELDS)}")
    used = PRUNER_FIELDS[pruner.kind]
    for name, item in items.items():
        # A disabled pruner can keep its settings, so that `--set pruner.kind=none` suffices to disable it.
        if pruner.kind != "none" and name not in ("kind", *used):
            item.refuse_key(f"only {' and '.join(used)} with {pruner.kind}", "a setting that it does not use")
    return pruner


def _section(model: type[S], node: Node | None, *, defaults: Mapping[str, str] | None = None) -> S:
    """Return the settings of a section; the error for a missing setting has the position of the section."""
    if node is None:
        return model.model_validate(defaults or {})
    items = node.mapping(known=tuple(model.model_fields))
    values = {**(defaults or {}), **{name: item.plain() for name, item in items.items()}}
    try:
        return model.model_validate(values)
    except ValidationError as error:
        explained = explain(model, values, error, prefix=f"{node.key}.")
        place = items.get(explained.key.removeprefix(f"{node.key}."), node).place
        raise BadInputError(f"{place}: {explained}") from None
