import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.champion import Standing, judge, wilson_half_width


def standing(top1: float, *, num_images: int = 144, data_digest: str = "same") -> Standing:
    return Standing(top1=top1, num_images=num_images, data_digest=data_digest)


def test_half_width_is_wilsons() -> None:
    # 81 of 263: the interval (0.2553, 0.3662) of Newcombe 1998, Statistics in Medicine 17, table I
    assert wilson_half_width(81 / 263, 263) == pytest.approx((0.3662 - 0.2553) / 2, abs=6e-5)
    # 0 of 20: (0, 0.1611), the same table
    assert wilson_half_width(0.0, 20) == pytest.approx(0.1611 / 2, abs=6e-5)


@given(st.integers(0, 1000), st.integers(1, 1000))
def test_half_width_solves_wilsons_equation(num_right: int, num_images: int) -> None:
    top1 = min(num_right, num_images) / num_images
    half, z = wilson_half_width(top1, num_images), 1.959963984540054
    centre = (top1 + z**2 / (2 * num_images)) / (1 + z**2 / num_images)
    for bound in (centre - half, centre + half):
        # the bounds are the rates whose own standard error reaches the measured one
        assert (bound - top1) ** 2 == pytest.approx(z**2 * bound * (1 - bound) / num_images, abs=1e-9)


@pytest.mark.parametrize(("top1", "num_images"), [(math.nan, 10), (-0.1, 10), (1.1, 10), (0.5, 0)])
def test_half_width_refuses_what_is_no_accuracy(top1: float, num_images: int) -> None:
    with pytest.raises(ValueError, match="an accuracy in"):
        wilson_half_width(top1, num_images)


def test_the_first_version_is_champion() -> None:
    verdict = judge(standing(0.1), None)
    assert (verdict.alias, verdict.why) == ("champion", "the first version")


def test_a_version_replaces_the_champion_only_beyond_chance() -> None:
    margin = wilson_half_width(0.95, 144)
    better = judge(standing(0.95), standing(0.95 - margin - 1e-9))
    assert better.alias == "champion"
    assert better.why == (
        f"val/top1 0.9500 on 144 images against the champion's {0.95 - margin:.4f}: "
        f"+{margin:.4f} is more than chance (half its interval, {margin:.4f})"
    )
    within = judge(standing(0.95), standing(0.95 - margin + 1e-9))
    assert within.alias == "challenger"
    assert within.why.endswith(f"is not more than chance (half its interval, {margin:.4f})")
    assert judge(standing(0.90), standing(0.95)).alias == "challenger"


def test_versions_measured_on_other_data_are_not_compared() -> None:
    verdict = judge(standing(0.99), standing(0.10, data_digest="other"))
    assert verdict.alias == "challenger"
    assert "on other images" in verdict.why


def test_a_champion_without_figures_is_not_compared() -> None:
    verdict = judge(standing(0.99), standing(math.nan, num_images=0, data_digest=""))
    assert verdict.alias == "challenger"
