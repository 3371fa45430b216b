"""The metrics that training reports, and which of them may decide a search."""

import math
import re
from collections.abc import Mapping

# Reported whatever the configuration, with what each is; an exit's own accuracy, val/exit<s>_top1, needs that
# exit. Accuracies are fractions of the validation images; costs count repeated work too.
DECISIVE: Mapping[str, str] = {
    "val/top1": "accuracy of a linear probe on the backbone's features",
    "val/ensemble_top1": "accuracy of the mean of the probes on all exits",
    "val/knn_top1": "accuracy of the nearest neighbours of the backbone's features",
    "cost/seconds": "seconds of training and evaluation",
    "cost/images_per_second": "images a second that all workers trained on",
    "cost/peak_memory_mb": "megabytes at the peak, of the device or, on CPUs, of the process",
    "cost/accelerator_hours": "hours times accelerators",
    "cost/train_macs": "multiply-accumulates of training",
    "cost/encoder_parameters": "parameters of the network, exits included",
}
EXIT_TOP1 = "val/exit<s>_top1"
_EXIT_TOP1 = re.compile(r"val/exit([1-9][0-9]*)_top1")

_NEVER_DECISIVE = {
    "train/loss": "a metric that compares trials: the loss moves with the temperature",
    "train/learning_rate": "a result of training: the learning rate is a setting",
}


def exit_of(metric: str) -> int | None:
    """Return the stage of `val/exit<s>_top1`, None for any other metric."""
    match = _EXIT_TOP1.fullmatch(metric)
    return int(match[1]) if match else None


def why_not(metric: str) -> str | None:
    """Return what a reported metric lacks to decide a search, None where no such thing is known."""
    if metric.startswith("test/"):
        return "a metric known while searching: the test images judge the winner only, once"
    return _NEVER_DECISIVE.get(metric)


def is_cost(metric: str) -> bool:
    """Return whether a metric tells what training took, so that more of it is no better by itself."""
    return metric.startswith("cost/")


def limits(metric: str) -> tuple[float, float]:
    """Return the least and the greatest value that a metric can have: accuracies are fractions."""
    return (0.0, math.inf) if is_cost(metric) else (0.0, 1.0)
