"""The `start` part of a search-space file: configurations to try first, in Optuna's names and encodings.

A parameter that a starting point omits has the value of `train` where that gives one; otherwise it is
sampled, and then branches that depend on it can not be told apart yet: a value goes to each that may apply.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from selfcon.values import shown
from tune_jobs.space.conditions import Branch, Parameters
from tune_jobs.space.domains import encode
from tune_jobs.space.field_reader import read_value, refuse_unless_searched
from tune_jobs.space.yaml_file import Node
from tune_jobs.space.yaml_scalars import Scalar


@dataclass(frozen=True)
class StartPoint:
    """A configuration to try first: the `given` parameters by dotted name, and as Optuna is told them."""

    given: Mapping[str, Any]
    encoded: Mapping[str, Scalar]


@dataclass
class _Known:
    """What is known of a configuration while it is taken over: values, and what goes to Optuna."""

    values: dict[str, Any] = field(default_factory=dict)
    encoded: dict[str, Scalar] = field(default_factory=dict)


@dataclass
class _Point:
    """A starting point while it is read: the values known so far, and what goes to Optuna."""

    node: Node
    known: dict[str, Any] = field(default_factory=dict)
    encoded: dict[str, Scalar] = field(default_factory=dict)


def read_start_points(start: Node | None, parameters: Parameters) -> tuple[StartPoint, ...]:
    """Return the starting points of a file. Raises `BadInputError` for one that can not be tried."""
    return tuple(_start_point(node, parameters) for node in start.sequence()) if start else ()


def transferred(config: Mapping[str, Any], parameters: Parameters) -> StartPoint | None:
    """Return a configuration of another search as one to try first here: as much of it as is explored here.

    What this space cannot have is sampled, and what depends on that too. None where nothing is left, and for
    a combination that is forbidden here.
    """
    point, given = _Known(), {}
    for name in parameters.order():
        controllers = parameters.controllers(name)
        if any(other not in point.values for other in controllers):
            continue
        index = parameters.active(name, point.values)
        if index is None:
            point.values[name] = parameters.without_search(name)
            continue
        branch = parameters.branches[name][index]
        if branch.domain.contains(config[name]):
            point.encoded[branch.optuna_name] = encode(config[name])
            point.values[name] = given[name] = config[name]
    is_forbidden = any(_holds(entry, point.values) for entry in parameters.forbid)
    return None if is_forbidden or not given else StartPoint(given, point.encoded)


def _start_point(node: Node, parameters: Parameters) -> StartPoint:
    items = node.mapping()
    for name, item in items.items():
        refuse_unless_searched(name, item, parameters.branches)
    given = {name: read_value(name, item) for name, item in items.items()}
    point = _Point(node)
    for name in parameters.order():
        possible, certain = _possible_branches(parameters.branches[name], point.known)
        if name in given:
            _place(point, name, given[name], possible, certain=certain, node=items[name])
        elif name in parameters.fixed:
            _place(point, name, parameters.fixed[name], possible, certain=certain, node=None)
        elif not possible:
            point.known[name] = parameters.without_search(name)
    if not point.encoded:
        node.refuse("at least one parameter with its value")
    if any(_holds(entry, point.known) for entry in parameters.forbid):
        node.refuse("a combination that `forbid` allows")
    return StartPoint(given, point.encoded)


def _possible_branches(
    branches: tuple[Branch, ...], known: Mapping[str, Any]
) -> tuple[tuple[Branch, ...], bool]:
    """The branches that may apply when only some values are known, and whether one of them must."""
    possible: list[Branch] = []
    for branch in branches:
        undecided = [name for name in branch.when if name not in known]
        if any(known[name] not in branch.when[name] for name in branch.when if name in known):
            continue
        possible.append(branch)
        if not undecided:
            return tuple(possible), True
    return tuple(possible), False


def _place(
    point: _Point, name: str, value: Any, possible: tuple[Branch, ...], *, certain: bool, node: Node | None
) -> None:
    """Give a value to the branches that may apply; `node` is where it stands, None for a value of `train`."""
    if not possible:
        if node is not None:
            node.refuse_key("a parameter that is active in this starting point", "an inactive one")
        point.known[name] = value
        return
    fitting = [branch for branch in possible if branch.domain.contains(value)]
    if not fitting:
        words = " or ".join(str(branch.domain) for branch in possible)
        if node is None:
            point.node.refuse(f"a value of {name} ({words}), as train's {shown(value)} is none of them")
        node.refuse(f"a value that {name} can have here: {words}")
    point.encoded.update({branch.optuna_name: encode(value) for branch in fitting})
    if len(fitting) == len(possible) and (certain or node is None):
        point.known[name] = value


def _holds(entry: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return all(name in known and known[name] == value for name, value in entry.items())
