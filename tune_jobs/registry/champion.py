"""Which registered encoder is the champion: a pure decision from two validation accuracies."""

from dataclasses import dataclass
from enum import StrEnum

from tune_jobs.intervals import wilson_half_width


class Alias(StrEnum):
    """The names under which a version of a registered encoder is found."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


@dataclass(frozen=True, kw_only=True)
class VersionScore:
    """What a version is judged by: its val/top1, on how many images, of which data."""

    top1: float
    num_images: int
    data_digest: str


@dataclass(frozen=True)
class Verdict:
    """The alias a new version gets, and why, in one line."""

    alias: Alias
    why: str


def choose_alias(new: VersionScore, champion: VersionScore | None) -> Verdict:
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
