"""How far two trials may lie apart by chance, by the size of the validation set and the spread over seeds."""

import math
import statistics
from collections.abc import Sequence

from tune_jobs.intervals import Z_95, wilson_interval
from tune_jobs.study.selection import Candidate
from tune_jobs.study.snapshot import Snapshot


def is_accuracy(metric: str) -> bool:
    """Return whether a metric is a share of the validation images."""
    return metric.startswith("val/") and metric.endswith("top1")


def num_validation_images(snapshot: Snapshot) -> int | None:
    """Return on how many images the first objective is measured; None where it is no accuracy of theirs."""
    if snapshot.data is None or not is_accuracy(snapshot.objective.metric):
        return None
    return snapshot.data.num_images.get("validation") or None


def interval(snapshot: Snapshot, value: float) -> tuple[float, float] | None:
    """Return the 95 % Wilson interval of a value of the first objective; None where it is no accuracy."""
    num_images = num_validation_images(snapshot)
    return None if num_images is None else wilson_interval(value, num_images)


def seed_deviation(candidates: Sequence[Candidate]) -> float | None:
    """Return the standard deviation over the seeds, pooled over the candidates; None without repetitions."""
    groups = [candidate.values for candidate in candidates if len(candidate.values) > 1]
    if not groups:
        return None
    squares = math.fsum(statistics.variance(values) * (len(values) - 1) for values in groups)
    return math.sqrt(squares / sum(len(values) - 1 for values in groups))


def noise(snapshot: Snapshot) -> float | None:
    """Return by how much two equally good trials may differ in the first objective: see `noise_around`.

    None where nothing is known: no trial yet, or no accuracy and no seeds.
    """
    best = next(iter(snapshot.ranked_alone), None)
    return None if best is None or best.value is None else noise_around(snapshot, best.value)


def noise_around(snapshot: Snapshot, value: float) -> float | None:
    """Return by how much two trials that are as good as `value` may differ by chance, 19 times in 20.

        1.96 sqrt(2 (p (1 - p) / n + s^2)),  p = (k + 2) / (n + 4) of k right ones of n images

    p after Agresti and Coull (1998), so that it is not 0 where every image is named right; s is
    `seed_deviation`, 0 as long as no seed is repeated. All trials are judged by the same images, which makes
    the bound a wide one. None for what is no accuracy, without seeds.
    """
    variance = variance_around(snapshot, value)
    return None if variance is None else Z_95 * math.sqrt(2 * variance)


def variance_around(
    snapshot: Snapshot, value: float, *, num_seeds: int = 1, deviation: float | None = None
) -> float | None:
    """Return the variance of a value, or of a mean of `num_seeds` of them: see `noise_around`.

    `deviation` is that of the seeds where this search has repeated none. None where nothing is known.
    """
    num_images = num_validation_images(snapshot)
    own = seed_deviation(snapshot.candidates)
    deviation = deviation if own is None else own
    if num_images is None and deviation is None:
        return None
    variance = 0.0 if deviation is None else deviation**2 / num_seeds
    if num_images is not None:
        share = (value * num_images + 2) / (num_images + 4)
        variance += share * (1 - share) / num_images
    return variance
