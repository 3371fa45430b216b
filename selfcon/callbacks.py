"""What a caller of `selfcon.train.fit` is told while it trains, and what it is asked."""

from collections.abc import Callable
from dataclasses import dataclass

from selfcon.errors import TrainingStopped

# Called with the place that a run has reached, in words: `epoch 3, step 17`.
Progress = Callable[[str], None]


def unwatched(_place: str) -> None:
    """Ignore the progress of a run."""


@dataclass(frozen=True, kw_only=True)
class Callbacks:
    """Hooks of a training run, called on every rank unless stated otherwise.

    Args:
        progress: Called with a place in words each time the run makes progress: once it is set up, after
            every step, and in evaluations after every batch and every epoch of the probes. It must not
            communicate with other ranks.
        stop_requested: Asked after every step. If any rank answers yes, all ranks raise `TrainingStopped`,
            whose checkpoint `fit(resume_from=)` accepts like any other.
        save_at_once: No rank can leave an evaluation on its own. If the first rank is asked to stop there,
            this is called on it, once, with what `TrainingStopped` would hold, and the evaluation continues.
            If it cannot finish, only the evaluation is repeated from that checkpoint. None: never.
    """

    progress: Progress = unwatched
    stop_requested: Callable[[], bool] | None = None
    save_at_once: Callable[[TrainingStopped], None] | None = None
