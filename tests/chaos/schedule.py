"""Schedule of kills, as a pure function of a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

MAX_DELAY_S = 6.0  # about the time to the first epoch of a trial, so some kills come before it and some after
MAX_PAUSE_S = 12.0


class Victim(StrEnum):
    """Part of a search that a kill hits."""

    LAUNCHER = "launcher"
    LAUNCHER_SIGTERM = "launcher, by SIGTERM"
    WORKER = "training worker"
    TRIAL = "trial actor"
    CONTROLLER = "Train controller"
    NODE = "node"
    PREEMPTED_NODE = "node, with notice"
    HEAD = "head"
    SERVER = "MLflow server"


# Kills that end attempts. A trial fails after three attempts in a row without a new epoch, as intended.
TRIAL_VICTIMS = frozenset({Victim.WORKER, Victim.TRIAL, Victim.CONTROLLER, Victim.NODE})


@dataclass(frozen=True)
class Kill:
    """One kill, due when the search has finished `progress` epochs and the victim has existed for `delay_s`.

    If `progress` is None, it is due after the last trial, while results are published. `choice`, in [0, 1),
    selects one of several victims. The server is restarted after `pause_s`.
    """

    victim: Victim
    progress: int | None
    delay_s: float
    choice: float
    pause_s: float


def draw_schedule(
    seed: int,
    *,
    num_kills: int,
    num_epochs: int,
    victims: Sequence[Victim],
    at_the_end: Sequence[Victim] = (),
) -> list[Kill]:
    """Return `num_kills` kills in order; the counts of the victims differ by at most one.

    All except those `at_the_end` are within the first `num_epochs` epochs, which every search reaches.
    """
    random = Random(seed)
    during = [victims[index % len(victims)] for index in range(num_kills - len(at_the_end))]
    random.shuffle(during)
    times: list[int | None] = [*sorted(random.randrange(num_epochs) for _ in during)]
    times += [None] * len(at_the_end)
    return [
        Kill(
            victim=victim,
            progress=progress,
            delay_s=random.uniform(0, MAX_DELAY_S),
            choice=random.random(),
            pause_s=random.uniform(0, MAX_PAUSE_S),
        )
        for victim, progress in zip([*during, *at_the_end], times, strict=True)
    ]
