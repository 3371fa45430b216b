"""The `space` and `forbid` parts of a search-space file, read into parameters with conditions.

Every choice and both ends of a range are checked alone, as `selfcon.config` says; what they may not be
together is checked once the whole file is known.
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

# All trials of a search are judged on the same images, or their values could not be compared.
SAME_FOR_ALL_TRIALS = ("data.dataset", "data.root", "data.validation_fraction", "data.split_seed")

_RANGE_WORDS = ("low", "high", "step", "log")


def read_parameters(space: Node, fixed: Mapping[str, Any], *, forbid: Node | None = None) -> Parameters:
    """Return the search parameters of a file; `fixed` holds the values of `train` by dotted name.

    Raises `BadInputError` for a name, value, range or condition that is wrong by itself.
    """
    fields = space.mapping()
    if not fields:
        space.refuse("at least one parameter")
    searched = {name: _searched(name, node, fixed) for name, node in fields.items()}
    branches = {name: _branches(name, node, searched) for name, node in fields.items()}
    parameters = Parameters(branches, fixed)
    _refuse_circles(parameters, fields)
    entries = tuple(_forbidden(entry, searched) for entry in forbid.sequence()) if forbid else ()
    return Parameters(branches, fixed, entries)


@dataclass(frozen=True)
class _Searched:
    """All values that a parameter can have: those of its branches, and the one it has when none applies."""

    domains: tuple[Domain, ...]
    otherwise: tuple[Any, ...]

    def __str__(self) -> str:
        return " or ".join([*map(str, self.domains), *map(shown, self.otherwise)])


def branch_nodes(node: Node) -> list[Node]:
    """Return the branches of a parameter as they stand in the file: a mapping is the only one."""
    nodes = node.value if isinstance(node.value, list) else [node]
    if not nodes or not all(isinstance(branch.value, dict) for branch in nodes):
        hint = f"{{choices: {shown(node.plain())}}}" if isinstance(node.value, list) and nodes else None
        node.refuse("{choices: [...]} or {low: ..., high: ...}, or a list of these", hint=hint)
    return nodes


def _searched(name: str, node: Node, fixed: Mapping[str, Any]) -> _Searched:
    if name in SECTIONS:
        node.refuse_key("a dotted training field, such as loss.temperature", "a section")
    if name not in FIELD_NAMES:
        node.refuse_key("the name of a training field", hint=nearest(name, FIELD_NAMES))
    if name in SAME_FOR_ALL_TRIALS:
        node.refuse_key("a field that may differ between trials (all are judged on the same images)", name)
    nodes = branch_nodes(node)
    domains = tuple(_domain(name, branch) for branch in nodes)
    always_active = any("when" not in branch.mapping() for branch in nodes)
    return _Searched(domains, () if always_active else (fixed.get(name, DEFAULTS[name]),))


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
    numbers = numbers_of(field_annotation(name))
    if not numbers:
        items["low"].refuse_key("choices, as this field is not a number", "a range")
    low, high = (_bound(name, items[word]) for word in ("low", "high"))
    if low > high:
        items["high"].refuse(f"a number of at least low, which is {low}")
    log = items["log"].value if "log" in items else False
    if not isinstance(log, bool):
        items["log"].refuse("true or false")
    if log and low <= 0:
        items["low"].refuse("a number greater than 0, as the range is logarithmic")
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
    kind = int if whole else (int, float)
    if isinstance(node.value, bool) or not isinstance(node.value, kind) or not 0 < node.value < math.inf:
        node.refuse(f"a {'whole' if whole else 'finite'} number greater than 0")
    return node.value


def numbers_of(annotation: Any) -> set[type]:
    """Return which of int and float a field may be, also inside a union."""
    if get_origin(annotation) in (Union, UnionType):
        return {kind for member in get_args(annotation) for kind in numbers_of(member)}
    if get_origin(annotation) is Annotated:
        return numbers_of(get_args(annotation)[0])
    return {annotation} & {int, float}


def _branches(name: str, node: Node, searched: Mapping[str, _Searched]) -> tuple[Branch, ...]:
    nodes = branch_nodes(node)
    optuna_names = [name] if len(nodes) == 1 else [f"{name}@{i}" for i in range(1, len(nodes) + 1)]
    conditions = [_condition(branch.mapping().get("when"), searched) for branch in nodes]
    return tuple(
        Branch(optuna_name, domain, when)
        for optuna_name, domain, when in zip(optuna_names, searched[name].domains, conditions, strict=True)
    )


def _condition(when: Node | None, searched: Mapping[str, _Searched]) -> dict[str, tuple[Any, ...]]:
    if when is None:
        return {}
    condition = {}
    for name, node in when.mapping().items():
        refuse_unless_searched(name, node, searched)
        alternatives = [
            _singled_out(name, item, searched) for item in node.sequence("a list of alternatives")
        ]
        condition[name] = tuple(alternatives) or node.refuse("at least one alternative")
    return condition or when.refuse("at least one field with its alternatives")


def _forbidden(entry: Node, searched: Mapping[str, _Searched]) -> dict[str, Any]:
    combination = {}
    for name, node in entry.mapping().items():
        refuse_unless_searched(name, node, searched)
        combination[name] = _singled_out(name, node, searched)
    return combination or entry.refuse("at least one parameter with its value")


def _singled_out(name: str, node: Node, searched: Mapping[str, _Searched]) -> Any:
    """One value of a parameter that `when` or `forbid` names."""
    value = read_value(name, node)
    possible = searched[name]
    if all(isinstance(domain, FloatRange) for domain in possible.domains):
        node.refuse(f"a parameter with choices or whole numbers, as {name} meets a value only by chance")
    if value not in possible.otherwise and not any(domain.contains(value) for domain in possible.domains):
        node.refuse(f"a value that {name} can have: {possible}")
    return value


def _refuse_circles(parameters: Parameters, fields: Mapping[str, Node]) -> None:
    try:
        parameters.order()
    except ValueError as error:
        circle = [str(name) for name in error.args]
        fields[circle[0]].refuse_key("conditions that do not go round in a circle", " -> ".join(circle))
