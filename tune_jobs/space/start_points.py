"""Starting points: configurations to try first, with Optuna's parameter names and encoded values.

A parameter that a starting point omits has the value of `train` if the file gives one; otherwise it is
sampled. Which branch of a dependent parameter applies is then unknown, so a given value is assigned to every
branch that can apply.
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
    """Configuration to try first: the `given` parameters by dotted name, and `encoded` for Optuna."""

    given: Mapping[str, Any]
    encoded: Mapping[str, Scalar]


@dataclass
class _Transfer:
    """Known values and encoded parameters of a configuration while it is transferred to this space."""

    values: dict[str, Any] = field(default_factory=dict)
    encoded: dict[str, Scalar] = field(default_factory=dict)


@dataclass
class _Point:
    """Known values and encoded parameters of a starting point while it is read."""

    node: Node
    known: dict[str, Any] = field(default_factory=dict)
    encoded: dict[str, Scalar] = field(default_factory=dict)


def read_start_points(start: Node | None, parameters: Parameters) -> tuple[StartPoint, ...]:
    """Return the starting points of a file. Raises `BadInputError` for an impossible one."""
    return tuple(_start_point(node, parameters) for node in start.sequence()) if start else ()


def transferred(config: Mapping[str, Any], parameters: Parameters) -> StartPoint | None:
    """Return a starting point with the values of another search's configuration that are possible here.

    Parameters whose values are outside this space are sampled, as are the parameters that depend on them.
    Returns None if no parameter remains, or if the combination is forbidden here.
    """
    point, given = _Transfer(), {}
    for name in parameters.order():
        controllers = parameters.controllers(name)
        if any(other not in point.values for other in controllers):
            continue
        index = parameters.active(name, point.values)
        if index is None:
            point.values[name] = parameters.inactive_value(name)
            continue
        branch = parameters.branches[name][index]
        if branch.domain.contains(config[name]):
            point.encoded[branch.optuna_name] = encode(config[name])
            point.values[name] = given[name] = config[name]
    is_forbidden = any(_matches(entry, point.values) for entry in parameters.forbid)
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
            _assign(point, name, given[name], possible, certain=certain, node=items[name])
        elif name in parameters.fixed:
            _assign(point, name, parameters.fixed[name], possible, certain=certain, node=None)
        elif not possible:
            point.known[name] = parameters.inactive_value(name)
    if not point.encoded:
        node.refuse("at least one parameter with its value")
    if any(_matches(entry, point.known) for entry in parameters.forbid):
        node.refuse("a combination that `forbid` allows")
    return StartPoint(given, point.encoded)


def _possible_branches(
    branches: tuple[Branch, ...], known: Mapping[str, Any]
) -> tuple[tuple[Branch, ...], bool]:
    """Return the branches that can apply given the known values, and whether one of them must apply."""
    possible: list[Branch] = []
    for branch in branches:
        undecided = [name for name in branch.when if name not in known]
        if any(known[name] not in branch.when[name] for name in branch.when if name in known):
            continue
        possible.append(branch)
        if not undecided:
            return tuple(possible), True
    return tuple(possible), False


def _assign(
    point: _Point, name: str, value: Any, possible: tuple[Branch, ...], *, certain: bool, node: Node | None
) -> None:
    """Assign a value to the branches that can apply; `node` holds the value, None for a value of `train`."""
    if not possible:
        if node is not None:
            node.refuse_key("a parameter that is active in this starting point", "an inactive one")
        point.known[name] = value
        return
    fitting = [branch for branch in possible if branch.domain.contains(value)]
    if not fitting:
        domains = " or ".join(str(branch.domain) for branch in possible)
        if node is None:
            reason = f"because train's {shown(value)} is not one of them"
            point.node.refuse(f"a value for {name} ({domains}), {reason}")
        node.refuse(f"a possible value of {name} here: {domains}")
    point.encoded.update({branch.optuna_name: encode(value) for branch in fitting})
    if len(fitting) == len(possible) and (certain or node is None):
        point.known[name] = value


def _matches(entry: Mapping[str, Any], known: Mapping[str, Any]) -> bool:
    return all(name in known and known[name] == value for name, value in entry.items())
