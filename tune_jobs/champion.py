"""Which registered encoder is the champion: a pure decision from two validation accuracies."""

import math
from dataclasses import dataclass
from enum import StrEnum

# The 97.5 % quantile of the normal distribution: two-sided 95 %.
Z_95 = 1.959963984540054


class Alias(StrEnum):
    """The names under which a version of a registered encoder is found."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What a version is judged by: its val/top1, on how many images, of which data."""

    top1: float
    num_images: int
    data_digest: str


@dataclass(frozen=True)
class Verdict:
    """The alias a new version gets, and why, in one line."""

    alias: Alias
    why: str


def wilson_half_width(top1: float, num_images: int) -> float:
    """Return half the width of the 95 % Wilson score interval of an accuracy measured on `num_images` images.

        z / (1 + z^2/n) * sqrt(p (1 - p) / n + z^2 / (4 n^2))

    Wilson 1927, Probable Inference, the Law of Succession, and Statistical Inference. Unlike the normal
    interval it is not empty at 0 and 1. Raises `ValueError` for an accuracy outside [0, 1] or no images.
    """
    if not (0 <= top1 <= 1 and num_images >= 1):
        raise ValueError(f"expected an accuracy in [0, 1] of at least one image, got {top1} of {num_images}")
    z_squared = Z_95**2
    spread = math.sqrt(top1 * (1 - top1) / num_images + z_squared / (4 * num_images**2))
    return Z_95 / (1 + z_squared / num_images) * spread


def wilson_interval(top1: float, num_images: int) -> tuple[float, float]:
    """Return the 95 % Wilson score interval of an accuracy measured on `num_images` images.

    Its middle is (p + z^2/(2n)) / (1 + z^2/n); see `wilson_half_width`, also for what is raised.
    """
    half, z_squared = wilson_half_width(top1, num_images), Z_95**2
    middle = (top1 + z_squared / (2 * num_images)) / (1 + z_squared / num_images)
    return max(0.0, middle - half), min(1.0, middle + half)


def judge(new: Standing, champion: Standing | None) -> Verdict:
    """Return the alias of a new version: champion if there is none, or if it is better beyond chance.

    Better means: on the same data, its val/top1 is above the champion's by more than the half-width of
    its own 95 % Wilson interval.
    """
    if champion is None:
        return Verdict(Alias.CHAMPION, "the first version")
    if new.data_digest != champion.data_digest:
        return Verdict(
            Alias.CHALLENGER,
            "the champion was measured on other images or another split of them, so they cannot be compared",
        )
    margin = wilson_half_width(new.top1, new.num_images)
    gain = new.top1 - champion.top1
    comparison = (
        f"val/top1 {new.top1:.4f} on {new.num_images} images against the champion's {champion.top1:.4f}: "
        f"{gain:+.4f}"
    )
    chance = f"chance (half its interval, {margin:.4f})"
    if gain > margin:
        return Verdict(Alias.CHAMPION, f"{comparison} is more than {chance}")
    return Verdict(Alias.CHALLENGER, f"{comparison} is not more than {chance}")
