import math

import pytest

from selfcon.errors import ConfigError
from selfcon.losses.exit_weights import relative_weights


@pytest.mark.parametrize(
    ("exit_weights", "backbone_weight", "expected"),
    [
        (None, 1.0, [1 / 3, 1 / 3, 1 / 3]),
        (2.0, 1.0, [0.4, 0.4, 0.2]),
        ([1.0, 2.0], 1.0, [0.25, 0.5, 0.25]),
        ((0.0, 3.0), 0.0, [0.0, 1.0, 0.0]),
        (0, 5, [0.0, 0.0, 1.0]),
    ],
)
def test_weights_are_normalised_to_the_sum_1(
    exit_weights: float | list[float] | None, backbone_weight: float, expected: list[float]
) -> None:
    assert relative_weights(exit_weights, backbone_weight, num_exits=3) == pytest.approx(expected)


def test_without_exits_the_backbone_has_weight_1() -> None:
    assert relative_weights(None, 0.1, num_exits=1) == [1.0]


@pytest.mark.parametrize(
    ("exit_weights", "backbone_weight", "message"),
    [
        ([1.0], 1.0, "exit_weights: expected a number, or one for each of the 2 exits before the backbone"),
        (-1.0, 1.0, r"finite weights >= 0, not all 0, got \[-1\.0, -1\.0, 1\.0\]"),
        (math.nan, 1.0, "finite weights"),
        (1.0, math.inf, "finite weights"),
        (0.0, 0.0, "not all 0"),
    ],
)
def test_invalid_weights_are_rejected(
    exit_weights: float | list[float], backbone_weight: float, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        relative_weights(exit_weights, backbone_weight, num_exits=3)
