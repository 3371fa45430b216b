import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.intervals import wilson_half_width


def test_the_half_width_matches_published_wilson_intervals() -> None:
    # 81 of 263: the interval (0.2553, 0.3662) of Newcombe 1998, Statistics in Medicine 17, table I
    assert wilson_half_width(81 / 263, 263) == pytest.approx((0.3662 - 0.2553) / 2, abs=6e-5)
    # 0 of 20: (0, 0.1611), the same table
    assert wilson_half_width(0.0, 20) == pytest.approx(0.1611 / 2, abs=6e-5)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_the_half_width_solves_wilsons_equation(num_correct: int, num_images: int) -> None:
    top1 = min(num_correct, num_images) / num_images
    half, z = wilson_half_width(top1, num_images), 1.959963984540054
    centre = (top1 + z**2 / (2 * num_images)) / (1 + z**2 / num_images)
    for bound in (centre - half, centre + half):
        # each bound is a rate whose distance to the measured rate is z of its own standard errors
        assert (bound - top1) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / num_images, abs=1e-9)


@pytest.mark.parametrize(("top1", "num_images"), [(math.nan, 10), (-0.1, 10), (1.1, 10), (0.5, 0)])
def test_the_half_width_of_an_invalid_accuracy_is_refused(top1: float, num_images: int) -> None:
    with pytest.raises(ValueError, match="an accuracy in"):
        wilson_half_width(top1, num_images)
