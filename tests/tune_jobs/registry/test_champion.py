import math

from tune_jobs.intervals import wilson_half_width
from tune_jobs.registry.champion import VersionScore, choose_alias


def score(top1: float, *, num_images: int = 144, data_digest: str = "same") -> VersionScore:
    return VersionScore(top1=top1, num_images=num_images, data_digest=data_digest)


def test_the_first_version_is_champion() -> None:
    verdict = choose_alias(score(0.1), None)
    assert (verdict.alias, verdict.why) == ("champion", "the first version")


def test_only_a_significantly_better_version_becomes_champion() -> None:
    margin = wilson_half_width(0.95, 144)
    better = choose_alias(score(0.95), score(0.95 - margin - 1e-9))
    assert better.alias == "champion"
    assert better.why == (
        f"val/top1 0.9500 on 144 images against the champion's {0.95 - margin:.4f}: "
        f"+{margin:.4f} is more than half of its 95 % interval ({margin:.4f})"
    )
    within = choose_alias(score(0.95), score(0.95 - margin + 1e-9))
    assert within.alias == "challenger"
    assert within.why.endswith(f"is not more than half of its 95 % interval ({margin:.4f})")
    assert choose_alias(score(0.90), score(0.95)).alias == "challenger"


def test_versions_evaluated_on_other_data_are_not_compared() -> None:
    verdict = choose_alias(score(0.99), score(0.10, data_digest="other"))
    assert verdict.alias == "challenger"
    assert "on other images" in verdict.why


def test_a_champion_without_metrics_is_not_compared() -> None:
    verdict = choose_alias(score(0.99), score(math.nan, num_images=0, data_digest=""))
    assert verdict.alias == "challenger"
