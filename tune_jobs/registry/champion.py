"""Choice of the champion: a pure function of two validation accuracies."""

from dataclasses import dataclass
from enum import StrEnum

from tune_jobs.intervals import wilson_half_width


class Alias(StrEnum):
    """Aliases of registered encoders."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"


@dataclass(frozen=True, kw_only=True)
class VersionScore:
    """Score of a version: its val/top1, the number of images, and the digest of the data."""

    top1: float
    num_images: int
    data_digest: str


@dataclass(frozen=True)
class Verdict:
    """Alias of a new version, and the reason in one line."""

    alias: Alias
    why: str


def choose_alias(new: VersionScore, champion: VersionScore | None) -> Verdict:
    """Return the alias of a new version: champion if there is none, or if it is significantly better.

    It is significantly better if, on the same data, its val/top1 exceeds the champion's by more than the
    half-width of its 95 % Wilson interval.
    """
    if champion is None:
        return Verdict(Alias.CHAMPION, "the first version")
    if new.data_digest != champion.data_digest:
        return Verdict(
            Alias.CHALLENGER,
            "the champion was evaluated on other images or another split, so the two cannot be compared",
        )
    margin = wilson_half_width(new.top1, new.num_images)
    gain = new.top1 - champion.top1
    comparison = (
        f"val/top1 {new.top1:.4f} on {new.num_images} images against the champion's {champion.top1:.4f}: "
        f"{gain:+.4f}"
    )
    limit = f"half of its 95 % interval ({margin:.4f})"
    if gain > margin:
        return Verdict(Alias.CHAMPION, f"{comparison} is more than {limit}")
    return Verdict(Alias.CHALLENGER, f"{comparison} is not more than {limit}")
