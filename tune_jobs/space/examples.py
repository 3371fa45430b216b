"""A few configurations that a search space allows, drawn with the standard library."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace
from tune_jobs.space.yaml_scalars import Scalar

MAX_DRAWS = 1000  # as many refused configurations in a row stop a search


class RandomTrial:
    """Suggests uniformly, or uniformly in the logarithm, from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float from `low` to `high`."""
        if step is not None:
            return min(high, low + step * self._random.randint(0, round((high - low) / step)))
        if log:
            return min(high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high)))))
        return self._random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return a whole number from `low` to `high`."""
        if log:
            # Half a number at both ends, so that low and high are as likely as their share of the logarithm.
            drawn = math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(high, max(low, round(drawn)))
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return one of the choices."""
        return self._random.choice(choices)


def example_parameters(space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """Return up to `count` configurations by their active parameters, the same ones every time.

    Raises `BadInputError` where `forbid` leaves nothing to draw.
    """
    draws = (space.suggest(RandomTrial(seed)) for seed in range(MAX_DRAWS))
    allowed = (parameters for parameters in draws if not space.is_forbidden(parameters))
    found = list(itertools.islice(allowed, count))
    if not found:
        expected = "entries that leave something to try"
        raise BadInputError(f"{space.place('forbid')}: forbid: expected {expected}, got ones that do not")
    return found
