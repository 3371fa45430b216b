"""Search parameters that depend on one another: branches with `when`, and combinations never tried.

Whether a parameter is active follows from the values that the others have in a configuration: suggested
where active, else the fixed value of `train`, else the default. So parameters are suggested after those
their conditions name.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selfcon.config import DEFAULTS
from tune_jobs.space.domains import Domain, Suggests

# A space with more combinations of the few fields one rule ties together is looked at up to here, in about a
# second; what lies beyond and breaks the rule is told `invalid` when it is drawn.
MAX_COMBINATIONS = 100_000


@dataclass(frozen=True)
class Branch:
    """A set of values of a parameter, and when it applies: where each field of `when` has a listed value.

    `optuna_name` is the name of the parameter, with @1, @2, ... where it has several branches: each is a
    parameter of its own to Optuna, whose samplers need one range for one name.
    """

    optuna_name: str
    domain: Domain
    when: Mapping[str, tuple[Any, ...]]

    def applies(self, values: Mapping[str, Any]) -> bool:
        """Return whether the condition holds in a configuration."""
        return all(values[name] in alternatives for name, alternatives in self.when.items())


@dataclass(frozen=True)
class Parameters:
    """All search parameters by dotted name in the file's order, what is fixed, and what is forbidden."""

    branches: Mapping[str, tuple[Branch, ...]]
    fixed: Mapping[str, Any]
    forbid: tuple[Mapping[str, Any], ...] = ()

    def without_search(self, name: str) -> Any:
        """Return the value a field has where no branch applies: the fixed one, else the default."""
        return self.fixed.get(name, DEFAULTS[name])

    def controllers(self, name: str) -> tuple[str, ...]:
        """Return the parameters that the conditions of a parameter name."""
        return tuple(dict.fromkeys(other for branch in self.branches[name] for other in branch.when))

    def order(self, names: Collection[str] | None = None) -> tuple[str, ...]:
        """Return the named parameters, or all, and those they depend on, each after its controllers.

        Raises `ValueError` with the names along a circle of conditions.
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
        """Return which branch of a parameter applies, the first that does; None where it is inactive."""
        return next((i for i, branch in enumerate(self.branches[name]) if branch.applies(values)), None)

    def suggest(self, trial: Suggests) -> dict[str, Any]:
        """Return the active parameters by dotted name, in the file's order."""
        values: dict[str, Any] = {}
        active: set[str] = set()
        for name in self.order():
            index = self.active(name, values)
            if index is None:
                values[name] = self.without_search(name)
            else:
                branch = self.branches[name][index]
                values[name] = branch.domain.suggest(trial, branch.optuna_name)
                active.add(name)
        return {name: values[name] for name in self.branches if name in active}

    def is_forbidden(self, values: Mapping[str, Any]) -> bool:
        """Return whether a configuration is never to be tried; what is not in `values` is inactive."""
        return any(
            all(values.get(name, self.without_search(name)) == value for name, value in entry.items())
            for entry in self.forbid
        )

    def combinations(self, fields: Collection[str]) -> Iterator[dict[str, Any]]:
        """Yield the values that fields may have together, less what `when` and `forbid` exclude.

        Each item also holds the parameters that decide about these. Of a range only the corners occur. An
        entry of `forbid` counts where all it names is decided.
        """
        order = self.order([name for name in fields if name in self.branches])
        start = {name: self.without_search(name) for name in fields if name not in self.branches}
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
            options: tuple[Any, ...] = (self.without_search(name),)
        else:
            options = self.branches[name][index].domain.corners(self._mentioned(name))
        for option in options:
            yield from self._extended({**values, name: option}, tuple(rest))

    def _mentioned(self, name: str) -> list[Any]:
        """The values of a parameter that some condition or forbidden combination singles out."""
        conditions = [b.when[name] for branches in self.branches.values() for b in branches if name in b.when]
        forbidden = [entry[name] for entry in self.forbid if name in entry]
        return [value for alternatives in conditions for value in alternatives] + forbidden
