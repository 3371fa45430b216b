"""Differences between trials that can be due to chance: size of the validation set, variation over seeds."""

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
    """Return the number of images behind the first objective; None if it is no validation accuracy."""
    if snapshot.data is None or not is_accuracy(snapshot.objective.metric):
        return None
    return snapshot.data.num_images.get("validation") or None


def interval(snapshot: Snapshot, value: float) -> tuple[float, float] | None:
    """Return the 95 % Wilson interval of a value of the first objective; None if it is no accuracy."""
    num_images = num_validation_images(snapshot)
    return None if num_images is None else wilson_interval(value, num_images)


def seed_deviation(candidates: Sequence[Candidate]) -> float | None:
    """Return the standard deviation over seeds, pooled over the candidates; None without repeated seeds."""
    groups = [candidate.values for candidate in candidates if len(candidate.values) > 1]
    if not groups:
        return None
    squares = math.fsum(statistics.variance(values) * (len(values) - 1) for values in groups)
    return math.sqrt(squares / sum(len(values) - 1 for values in groups))


def noise(snapshot: Snapshot) -> float | None:
    """Return the largest difference due to chance at the value of the best trial: see `noise_around`.

    None if it is not known: no complete trial, or neither an accuracy nor repeated seeds.
    """
    best = next(iter(snapshot.ranked_alone), None)
    return None if best is None or best.value is None else noise_around(snapshot, best.value)


def noise_around(snapshot: Snapshot, value: float) -> float | None:
    """Return the largest difference due to chance, with 95 % probability, of two trials at `value`.

        1.96 sqrt(2 (p (1 - p) / n + s^2)),  p = (k + 2) / (n + 4) for k correct of n images

    p follows Agresti and Coull (1998), so that the variance is not 0 if every image is classified correctly;
    s is `seed_deviation`, 0 as long as no seed is repeated. The bound is conservative, since all trials are
    evaluated on the same images. None if the metric is no accuracy and no seed is repeated.
    """
    variance = variance_around(snapshot, value)
    return None if variance is None else Z_95 * math.sqrt(2 * variance)


def variance_around(
    snapshot: Snapshot, value: float, *, num_seeds: int = 1, deviation: float | None = None
) -> float | None:
    """Return the variance of a value, or of a mean over `num_seeds` seeds: see `noise_around`.

    `deviation` is the standard deviation over seeds to assume if this search has repeated none. None if
    neither an accuracy nor a standard deviation is known.
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
