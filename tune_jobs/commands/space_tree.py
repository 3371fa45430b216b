"""A search space as a tree in plain text: each parameter below the one that its conditions depend on."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from selfcon.values import shown
from tune_jobs.space import SearchSpace
from tune_jobs.space.conditions import Branch, Parameters
from tune_jobs.space.domains import Choices, FloatRange, IntRange

MAX_COUNTED = 100_000


def space_tree(space: SearchSpace) -> list[str]:
    """Return the lines of the tree: parameter name, values of each branch, and condition of the branch."""
    places = list(_places(space, None, indent=""))
    width = max(len(place) for place, _ in places)
    return [
        f"{place if index == 0 else _continued(place):<{width}}  {branch}".rstrip()
        for place, name in places
        for index, branch in enumerate(_branches(space, name))
    ]


def counts(space: SearchSpace) -> str:
    """Return the size of the space: the number of discrete combinations and of continuous ranges."""
    tree = space.tree
    ranges = [name for name in tree.branches if _is_continuous(tree, name)]
    counted = [name for name in tree.order() if name not in ranges]
    number = _count(tree, counted) if counted else 0
    parts = []
    if counted:
        at_least = "more than " if number >= MAX_COUNTED else ""
        parts.append(f"{at_least}{number:,} combination{'' if number == 1 else 's'}")
    if ranges:
        parts.append(f"{len(ranges)} continuous range{'' if len(ranges) == 1 else 's'}")
    return " and ".join(parts)


# --- the tree ----------------------------------------------------------------------------------------------


def _places(space: SearchSpace, parent: str | None, *, indent: str) -> Iterator[tuple[str, str]]:
    """Each parameter below `parent`: its indented line and its name, followed by its own children."""
    children = [name for name in space.parameters if _parent(space.tree, name) == parent]
    for index, name in enumerate(children):
        is_last = index == len(children) - 1
        branch, below = ("", "") if parent is None else (("└─ ", "   ") if is_last else ("├─ ", "│  "))
        yield f"{indent}{branch}{name}", name
        yield from _places(space, name, indent=f"{indent}{below}")


def _parent(tree: Parameters, name: str) -> str | None:
    """Of the parameters that the conditions of `name` depend on, the one that is sampled last."""
    controllers, order = tree.controllers(name), tree.order()
    return max(controllers, key=order.index) if controllers else None


def _continued(place: str) -> str:
    """The prefix of a further branch of a parameter: the vertical lines of the tree."""
    start = place[: len(place) - len(place.lstrip("│└├─ "))]
    return start.replace("├─", "│ ").replace("└─", "  ")


def _branches(space: SearchSpace, name: str) -> Iterator[str]:
    branches, parent = space.parameters[name], _parent(space.tree, name)
    rows = [(str(branch.domain), _condition(branch, parent)) for branch in branches]
    if all(branch.when for branch in branches):
        rows.append((shown(space.tree.inactive_value(name)), "otherwise"))
    elif len(branches) > 1:
        rows[-1] = (rows[-1][0], "otherwise")
    width = max(len(domain) for domain, _ in rows)
    return (f"{domain:<{width}}   {condition}".rstrip() for domain, condition in rows)


def _condition(branch: Branch, parent: str | None) -> str:
    conditions = (
        f"{'' if name == parent else f'{name} is '}{' or '.join(shown(value) for value in alternatives)}"
        for name, alternatives in branch.when.items()
    )
    return f"if {' and '.join(conditions)}" if branch.when else ""


# --- counting ----------------------------------------------------------------------------------------------


def _is_continuous(tree: Parameters, name: str) -> bool:
    return any(isinstance(b.domain, FloatRange) and b.domain.step is None for b in tree.branches[name])


def _count(tree: Parameters, names: Collection[str]) -> int:
    """Number of allowed configurations of these parameters, at most `MAX_COUNTED`."""
    forbid = [entry for entry in tree.forbid if all(name in names or name in tree.fixed for name in entry)]
    number = 0
    for values in _extended(tree, {}, tuple(names)):
        known = {**{name: tree.inactive_value(name) for entry in forbid for name in entry}, **values}
        if not any(all(known[name] == value for name, value in entry.items()) for entry in forbid):
            number += 1
        if number >= MAX_COUNTED:
            break
    return number


def _extended(
    tree: Parameters, values: Mapping[str, Any], names: tuple[str, ...]
) -> Iterator[Mapping[str, Any]]:
    if not names:
        yield values
        return
    name, *rest = names
    for value in _options(tree, name, values):
        yield from _extended(tree, {**values, name: value}, tuple(rest))


def _options(tree: Parameters, name: str, values: Mapping[str, Any]) -> Collection[Any]:
    """Possible values of a parameter given these values; a condition on a continuous range counts as met."""
    for branch in tree.branches[name]:
        if all(values.get(other, wanted[0]) in wanted for other, wanted in branch.when.items()):
            return _all_values(branch.domain)
    return (tree.inactive_value(name),)


def _all_values(domain: Choices | IntRange | FloatRange) -> Collection[Any]:
    if isinstance(domain, Choices):
        return domain.values
    if isinstance(domain, IntRange):
        return range(domain.low, domain.high + 1, domain.step)
    assert domain.step is not None
    return range(1 + round((domain.high - domain.low) / domain.step))
