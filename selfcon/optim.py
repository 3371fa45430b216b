"""SGD and its learning-rate schedule, as in the authors' recipe.

Source: github.com/raymin0223/self-contrastive-learning, commit 5e7c2c5.
"""

import math
from collections.abc import Iterable

import torch
from torch.nn import Parameter

from selfcon.config import OptimConfig

FINAL_FRACTION = 1e-3  # the cosine ends at this fraction of the learning rate
WARMUP_START = 0.01  # the learning rate at the start of warm-up


def build_optimizer(parameters: Iterable[Parameter], optim: OptimConfig) -> torch.optim.SGD:
    """Return SGD with momentum, without Nesterov; weight decay applies to all parameters.

    As in the authors' code, biases and norms are included. The learning rate of each step is set by
    `learning_rate_at`.
    """
    return torch.optim.SGD(
        parameters, lr=optim.learning_rate, momentum=optim.momentum, weight_decay=optim.weight_decay
    )


def learning_rate_at(optim: OptimConfig, *, epoch: int, step: int, steps_per_epoch: int) -> float:
    """Return the learning rate of a step; `epoch` and `step` (within the epoch) count from 0.

    The schedule is constant within an epoch. With n = epoch + 1, as the authors count:

    - cosine: end + (learning_rate - end) (1 + cos(pi n / epochs)) / 2, end = learning_rate / 1000,
    - step: learning_rate x step_factor^(number of step_epochs below n),
    - constant: learning_rate.

    So the last epoch of cosine has learning_rate / 1000, and each step takes effect after that many epochs.

    In the first `warmup_epochs` it increases with each step, linearly from 0.01 to the value of the schedule
    at n = warmup_epochs. If that is below 0.01, it is constant during warm-up; the authors' formula would
    decrease towards it.

    Raises `ValueError` for an epoch or a step that does not exist.
    """
    if not (0 <= epoch < optim.epochs and 0 <= step < steps_per_epoch):
        expected = f"an epoch below {optim.epochs} and a step below {steps_per_epoch}, both from 0"
        raise ValueError(f"expected {expected}, got epoch {epoch}, step {step}")
    if epoch >= optim.warmup_epochs:
        return _scheduled(optim, epoch + 1)
    target = _scheduled(optim, optim.warmup_epochs)
    start = min(WARMUP_START, target)
    done = (epoch * steps_per_epoch + step) / (optim.warmup_epochs * steps_per_epoch)
    return start + done * (target - start)


def _scheduled(optim: OptimConfig, number: int) -> float:
    """The schedule in the epoch with this number, counted from 1."""
    if optim.schedule == "cosine":
        end = optim.learning_rate * FINAL_FRACTION
        return end + (optim.learning_rate - end) * (1 + math.cos(math.pi * number / optim.epochs)) / 2
    if optim.schedule == "step":
        passed = sum(number > step for step in optim.step_epochs)
        return float(optim.learning_rate * optim.step_factor**passed)
    return optim.learning_rate
