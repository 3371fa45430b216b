"""Example configurations of a search space, sampled with the standard library."""

import itertools
import math
import random
from collections.abc import Sequence
from typing import Any

from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace
from tune_jobs.space.yaml_scalars import Scalar

MAX_DRAWS = 1000  # a search also stops after this number of consecutive rejected configurations


class RandomTrial:
    """Trial that suggests values uniformly, or log-uniformly, from a seeded generator."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Return a float from `low` to `high`, both included."""
        if step is not None:
            return min(high, low + step * self._random.randint(0, round((high - low) / step)))
        if log:
            return min(high, max(low, math.exp(self._random.uniform(math.log(low), math.log(high)))))
        return self._random.uniform(low, high)

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        """Return an integer from `low` to `high`, both included."""
        if log:
            # Rounding halves the intervals of low and high, so the range is extended by 0.5 at both ends.
            sampled = math.exp(self._random.uniform(math.log(low - 0.5), math.log(high + 0.5)))
            return min(high, max(low, round(sampled)))
        return self._random.randrange(low, high + 1, step)

    def suggest_categorical(self, name: str, choices: Sequence[Scalar]) -> Scalar:
        """Return one of the choices."""
        return self._random.choice(choices)


def example_parameters(space: SearchSpace, count: int) -> list[dict[str, Any]]:
    """Return the active parameters of up to `count` allowed configurations, the same ones on every call.

    Raises `BadInputError` if `forbid` excludes all of `MAX_DRAWS` random configurations.
    """
    draws = (space.suggest(RandomTrial(seed)) for seed in range(MAX_DRAWS))
    allowed = (parameters for parameters in draws if not space.is_forbidden(parameters))
    found = list(itertools.islice(allowed, count))
    if not found:
        expected = "entries that allow at least one configuration"
        got = f"none allowed in {MAX_DRAWS} draws"
        raise BadInputError(f"{space.place('forbid')}: forbid: expected {expected}, got {got}")
    return found
