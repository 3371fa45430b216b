"""Conditional search parameters: branches with `when`, and forbidden combinations.

The values of the other parameters in a configuration decide whether a parameter is active. An active
parameter is suggested; an inactive one has the fixed value of `train`, else the default. Parameters are
therefore suggested after the parameters that their conditions name.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfcon.config import DEFAULTS
from tune_jobs.space.domains import Domain, Suggests

# Limit on the combinations of one rule's fields that are checked when a file is loaded, in about a second. A
# configuration beyond the limit that violates a rule is marked `invalid` when it is sampled.
MAX_COMBINATIONS = 100_000


@dataclass(frozen=True)
class Branch:
    """Domain of a parameter and its condition: each field of `when` has one of the listed values.

    `optuna_name` is the name of the parameter, with the suffix @1, @2, ... if it has several branches. Each
    branch is a separate Optuna parameter, because Optuna's samplers need one range per name.
    """

    optuna_name: str
    domain: Domain
    when: Mapping[str, tuple[Any, ...]]

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether the condition holds for a configuration."""
        return all(values[name] in alternatives for name, alternatives in self.when.items())


@dataclass(frozen=True)
class Parameters:
    """Search parameters by dotted name in the file's order, fixed values, and forbidden combinations."""

    branches: Mapping[str, tuple[Branch, ...]]
    fixed: Mapping[str, Any]
    forbid: tuple[Mapping[str, Any], ...] = ()

    def inactive_value(self, name: str) -> Any:
        """Return the value of a field when no branch applies: the fixed value, else the default."""
        return self.fixed.get(name, DEFAULTS[name])

    def controllers(self, name: str) -> tuple[str, ...]:
        """Return the parameters that appear in the conditions of a parameter."""
        return tuple(dict.fromkeys(other for branch in self.branches[name] for other in branch.when))

    def order(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """Return the named parameters (default: all) and their dependencies in topological order.

        Each parameter follows its controllers. Raises `ValueError` with the names of a cycle of conditions.
        """
        found: dict[str, None] = {}
        for name in self.branches if names is None else names:
            self._visit(name, found, path=())
        return tuple(found)

    def _visit(self, name: str, found: dict[str, None], path: tuple[str, ...]) -> None:
        if name in path:
            raise ValueError(*path[path.index(name) :], name)
        if name in found:
            return
        for controller in self.controllers(name):
            self._visit(controller, found, (*path, name))
        found[name] = None

    def active(self, name: str, values: Mapping[str, Any]) -> int | None:
        """Return the index of the first branch that applies, or None if the parameter is inactive."""
        return next((i for i, branch in enumerate(self.branches[name]) if branch.applies(values)), None)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Suggest values and return the active parameters by dotted name, in the file's order."""
        values: dict[str, Any] = {}
        active: set[str] = set()
        for name in self.order():
            index = self.active(name, values)
            if index is None:
                values[name] = self.inactive_value(name)
            else:
                branch = self.branches[name][index]
                values[name] = branch.domain.suggest(trial, branch.optuna_name)
                active.add(name)
        return {name: values[name] for name in self.branches if name in active}

    def is_forbidden(self, values: Mapping[str, Any]) -> bool:
        """Return whether a configuration is forbidden; parameters missing from `values` are inactive."""
        return any(
            all(values.get(name, self.inactive_value(name)) == value for name, value in entry.items())
            for entry in self.forbid
        )

    def combinations(self, fields: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the possible combinations of values of `fields`: those that `when` and `forbid` allow.

        Each item also has the parameters that control these fields. Ranges contribute their corner values
        only. An entry of `forbid` applies if all parameters it names are part of the combination.
        """
        order = self.order([name for name in fields if name in self.branches])
        start = {name: self.inactive_value(name) for name in fields if name not in self.branches}
        forbid = [entry for entry in self.forbid if entry.keys() <= set(order)]
        for values in self._extended(start, order):
            if not any(all(values[name] == value for name, value in entry.items()) for entry in forbid):
                yield values

    def _extended(self, values: dict[str, Any], order: tuple[str, ...]) -> Iterator[dict[str, Any]]:
        if not order:
            yield values
            return
        name, *rest = order
        index = self.active(name, values)
        if index is None:
            options: tuple[Any, ...] = (self.inactive_value(name),)
        else:
            options = self.branches[name][index].domain.corners(self._referenced_values(name))
        for option in options:
            yield from self._extended({**values, name: option}, tuple(rest))

    def _referenced_values(self, name: str) -> list[Any]:
        """Return the values of a parameter that appear in a condition or a forbidden combination."""
        conditions = [b.when[name] for branches in self.branches.values() for b in branches if name in b.when]
        forbidden = [entry[name] for entry in self.forbid if name in entry]
        return [value for alternatives in conditions for value in alternatives] + forbidden
