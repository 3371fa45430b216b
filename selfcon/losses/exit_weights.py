"""Weights of the exits in a loss."""

import math
from collections.abc import Sequence

from selfcon.errors import ConfigError


def relative_weights(
    exit_weights: float | Sequence[float] | None, backbone_weight: float, *, num_exits: int
) -> list[float]:
    """Return the weights of all exits, the backbone last, normalised to the sum 1.

    `num_exits` includes the backbone; `exit_weights` is for the others: None (each 1), a number for all, or
    one for each. Because of the normalisation, the scale of the loss, and thus a suitable learning rate, does
    not depend on the weights.

    Raises `ConfigError` for a wrong number of weights, for negative or infinite ones, and if all are 0.
    """
    if exit_weights is None:
        exit_weights = 1.0
    if isinstance(exit_weights, int | float):
        exit_weights = [exit_weights] * (num_exits - 1)
    if len(exit_weights) != num_exits - 1:
        expected = f"a number, or one for each of the {num_exits - 1} exits before the backbone"
        raise ConfigError("exit_weights", expected, str(exit_weights))
    weights = [*exit_weights, backbone_weight]
    if not (all(0 <= weight < math.inf for weight in weights) and any(weights)):
        raise ConfigError("exit_weights, backbone_weight", "finite weights >= 0, not all 0", str(weights))
    return [weight / math.fsum(weights) for weight in weights]
