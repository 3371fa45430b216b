"""Reader of the `space` and `forbid` sections of a search-space file.

Every choice and both bounds of a range are validated alone, by `selfcon.config`. Combinations are checked
once the whole file is read (`checks.py`).
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from selfcon.config import DEFAULTS, FIELD_NAMES, SECTIONS, field_annotation
from selfcon.errors import nearest
from selfcon.values import shown
from tune_jobs.space.conditions import Branch, Parameters
from tune_jobs.space.domains import Choices, Domain, FloatRange, IntRange, is_whole_number_of_steps
from tune_jobs.space.field_reader import read_value, refuse_unless_searched
from tune_jobs.space.yaml_file import Node

# All trials of a search are evaluated on the same images; otherwise their values would not be comparable.
SAME_FOR_ALL_TRIALS = ("data.dataset", "data.root", "data.validation_fraction", "data.split_seed")

_RANGE_WORDS = ("low", "high", "step", "log")


def read_parameters(space: Node, fixed: Mapping[str, Any], *, forbid: Node | None = None) -> Parameters:
    """Return the search parameters of a file; `fixed` holds the values of `train` by dotted name.

    Raises `BadInputError` for an invalid name, value, range or condition.
    """
    fields = space.mapping()
    if not fields:
        space.refuse("at least one parameter")
    searched = {name: _possible_values(name, node, fixed) for name, node in fields.items()}
    branches = {name: _branches(name, node, searched) for name, node in fields.items()}
    parameters = Parameters(branches, fixed)
    _refuse_cycles(parameters, fields)
    entries = tuple(_forbidden(entry, searched) for entry in forbid.sequence()) if forbid else ()
    return Parameters(branches, fixed, entries)


@dataclass(frozen=True)
class _PossibleValues:
    """All possible values of a parameter: those of its branches, and its value when no branch applies."""

    domains: tuple[Domain, ...]
    otherwise: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join([*map(str, self.domains), *map(shown, self.otherwise)])


def branch_nodes(node: Node) -> list[Node]:
    """Return the nodes of a parameter's branches; a mapping is a single branch."""
    nodes = node.value if isinstance(node.value, list) else [node]
    if not nodes or not all(isinstance(branch.value, dict) for branch in nodes):
        hint = f"{{choices: {shown(node.plain())}}}" if isinstance(node.value, list) and nodes else None
        node.refuse("{choices: [...]} or {low: ..., high: ...}, or a list of these", hint=hint)
    return nodes


def _possible_values(name: str, node: Node, fixed: Mapping[str, Any]) -> _PossibleValues:
    if name in SECTIONS:
        node.refuse_key("a dotted training field, such as loss.temperature", "a section")
    if name not in FIELD_NAMES:
        node.refuse_key("the name of a training field", hint=nearest(name, FIELD_NAMES))
    if name in SAME_FOR_ALL_TRIALS:
        node.refuse_key("a field that can differ between trials (all are evaluated on the same images)", name)
    nodes = branch_nodes(node)
    domains = tuple(_domain(name, branch) for branch in nodes)
    always_active = any("when" not in branch.mapping() for branch in nodes)
    return _PossibleValues(domains, () if always_active else (fixed.get(name, DEFAULTS[name]),))


def _domain(name: str, node: Node) -> Domain:
    items = node.mapping(known=("choices", *_RANGE_WORDS, "when"))
    if "choices" in items:
        for word in _RANGE_WORDS:
            if word in items:
                items[word].refuse_key("either choices, or low and high", "both")
        return _choices(name, items["choices"])
    if "low" not in items or "high" not in items:
        node.refuse("choices, or low and high")
    return _range(name, items)


def _choices(name: str, node: Node) -> Choices:
    values: list[Any] = []
    for item in node.sequence("a list of choices"):
        value = read_value(name, item)
        if value in values:
            item.refuse("each choice once", f"{shown(value)} again")
        values.append(value)
    if not values:
        node.refuse("at least one choice")
    return Choices(tuple(values))


def _range(name: str, items: Mapping[str, Node]) -> Domain:
    numbers = number_types(field_annotation(name))
    if not numbers:
        items["low"].refuse_key("choices, because this field is not a number", "a range")
    low, high = (_bound(name, items[word]) for word in ("low", "high"))
    if low > high:
        items["high"].refuse(f"a number of at least low, which is {low}")
    log = items["log"].value if "log" in items else False
    if not isinstance(log, bool):
        items["log"].refuse("true or false")
    if log and low <= 0:
        items["low"].refuse("a number greater than 0, because the range is logarithmic")
    step = _step(items, whole=float not in numbers, log=log) if "step" in items else None
    if step is not None and not is_whole_number_of_steps(low, high, step):
        items["high"].refuse(f"low plus a whole number of steps of {step}")
    if float in numbers:
        return FloatRange(float(low), float(high), step, log)
    return IntRange(int(low), int(high), 1 if step is None else int(step), log)


def _bound(name: str, node: Node) -> float:
    if isinstance(node.value, bool) or not isinstance(node.value, int | float):
        node.refuse("a number")
    bound: float = read_value(name, node)
    return bound


def _step(items: Mapping[str, Node], *, whole: bool, log: bool) -> float:
    node = items["step"]
    if log:
        node.refuse_key("no step in a logarithmic range", "one")
    valid = int if whole else (int, float)
    if isinstance(node.value, bool) or not isinstance(node.value, valid) or not 0 < node.value < math.inf:
        node.refuse(f"a {'whole' if whole else 'finite'} number greater than 0")
    return node.value


def number_types(annotation: Any) -> set[type]:
    """Return the number types (int, float) that an annotation allows, also inside a union."""
    if get_origin(annotation) in (Union, UnionType):
        return {number for member in get_args(annotation) for number in number_types(member)}
    if get_origin(annotation) is Annotated:
        return number_types(get_args(annotation)[0])
    return {annotation} & {int, float}


def _branches(name: str, node: Node, searched: Mapping[str, _PossibleValues]) -> tuple[Branch, ...]:
    nodes = branch_nodes(node)
    optuna_names = [name] if len(nodes) == 1 else [f"{name}@{i}" for i in range(1, len(nodes) + 1)]
    conditions = [_condition(branch.mapping().get("when"), searched) for branch in nodes]
    return tuple(
        Branch(optuna_name, domain, when)
        for optuna_name, domain, when in zip(optuna_names, searched[name].domains, conditions, strict=True)
    )


def _condition(when: Node | None, searched: Mapping[str, _PossibleValues]) -> dict[str, tuple[Any, ...]]:
    if when is None:
        return {}
    condition = {}
    for name, node in when.mapping().items():
        refuse_unless_searched(name, node, searched)
        alternatives = [
            _referenced_value(name, item, searched) for item in node.sequence("a list of alternatives")
        ]
        condition[name] = tuple(alternatives) or node.refuse("at least one alternative")
    return condition or when.refuse("at least one field with its alternatives")


def _forbidden(entry: Node, searched: Mapping[str, _PossibleValues]) -> dict[str, Any]:
    combination = {}
    for name, node in entry.mapping().items():
        refuse_unless_searched(name, node, searched)
        combination[name] = _referenced_value(name, node, searched)
    return combination or entry.refuse("at least one parameter with its value")


def _referenced_value(name: str, node: Node, searched: Mapping[str, _PossibleValues]) -> Any:
    """Return the value of a parameter in an entry of `when` or `forbid`."""
    value = read_value(name, node)
    possible = searched[name]
    if all(isinstance(domain, FloatRange) for domain in possible.domains):
        node.refuse(f"a parameter with choices or whole numbers, because {name} is a range of floats")
    if value not in possible.otherwise and not any(domain.contains(value) for domain in possible.domains):
        node.refuse(f"a possible value of {name}: {possible}")
    return value


def _refuse_cycles(parameters: Parameters, fields: Mapping[str, Node]) -> None:
    try:
        parameters.order()
    except ValueError as error:
        cycle = [str(name) for name in error.args]
        fields[cycle[0]].refuse_key("conditions without a cycle", " -> ".join(cycle))
