"""Callbacks of `selfcon.train.fit`."""

from collections.abc import Callable
from dataclasses import dataclass

from selfcon.errors import TrainingStopped

# Called with the location that a run has reached, as text: `epoch 3, step 17`.
Progress = Callable[[str], None]


def ignore_progress(_place: str) -> None:
    """Ignore the progress of a run."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Hooks of a training run, called on every rank unless stated otherwise.

    Args:
        progress: Called with the location as text at each progress: after set-up, after every step, and in
            evaluations after every batch and every epoch of the probes. It must not communicate with other
            ranks.
        stop_requested: Called after every step. If it returns True on any rank, all ranks raise
            `TrainingStopped`, whose checkpoint `fit(resume_from=)` accepts.
        save_at_once: Saves a checkpoint if a stop is requested during an evaluation, which cannot be
            interrupted. Called once, on the first rank, with a `TrainingStopped`; the evaluation then
            continues. If it cannot finish, a resumed run repeats only the evaluation. None: not called.
    """

    progress: Progress = ignore_progress
    stop_requested: Callable[[], bool] | None = None
    save_at_once: Callable[[TrainingStopped], None] | None = None
