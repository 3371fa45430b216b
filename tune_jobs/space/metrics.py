"""Metrics that training reports, and which of them can be objectives or constraints."""

import math
import re
from collections.abc import Mapping

# Metrics that every configuration reports, with their descriptions. The accuracy of one exit,
# val/exit<s>_top1, is reported only if the network has that exit. Accuracies are fractions of the validation
# images; costs include repeated work.
DECISIVE: Mapping[str, str] = {
    "val/top1": "accuracy of a linear probe on the backbone's features",
    "val/ensemble_top1": "accuracy of the averaged probabilities of the probes on all exits",
    "val/knn_top1": "accuracy of a k-nearest-neighbour classifier on the backbone's features",
    "cost/seconds": "seconds of training and evaluation",
    "cost/images_per_second": "training images per second, over all workers",
    "cost/peak_memory_mb": "peak memory in megabytes, of the device or, on CPUs, of the process",
    "cost/accelerator_hours": "hours multiplied by the number of accelerators",
    "cost/train_macs": "multiply-accumulate operations of training",
    "cost/encoder_parameters": "parameters of the network, including the exits",
}
EXIT_TOP1 = "val/exit<s>_top1"
_EXIT_TOP1 = re.compile(r"val/exit([1-9][0-9]*)_top1")

_NEVER_DECISIVE = {
    "train/loss": "a metric that is comparable between trials: the loss depends on the temperature",
    "train/learning_rate": "a result of training: the learning rate is a setting",
}


def exit_of(metric: str) -> int | None:
    """Return the stage s of `val/exit<s>_top1`, or None for any other metric."""
    match = _EXIT_TOP1.fullmatch(metric)
    return int(match[1]) if match else None


def rejection_reason(metric: str) -> str | None:
    """Return what is expected instead of a metric that cannot decide a search, or None for other metrics."""
    if metric.startswith("test/"):
        return "a metric known during the search: only the winner is evaluated on the test images, once"
    return _NEVER_DECISIVE.get(metric)


def is_cost(metric: str) -> bool:
    """Return whether a metric measures a cost, so that larger values are not better by default."""
    return metric.startswith("cost/")


def limits(metric: str) -> tuple[float, float]:
    """Return the smallest and the largest possible value of a metric: accuracies are fractions."""
    return (0.0, math.inf) if is_cost(metric) else (0.0, 1.0)
