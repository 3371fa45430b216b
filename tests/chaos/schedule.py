"""What is killed, and when: a pure function of a seed."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from random import Random

MAX_DELAY_S = 6.0  # a trial needs about as long to its first epoch: some kills come before it, some after
MAX_PAUSE_S = 12.0


class Victim(StrEnum):
    """What a kill hits."""

    LAUNCHER = "launcher"
    LAUNCHER_ASKED = "launcher, by SIGTERM"
    WORKER = "training worker"
    TRIAL = "trial actor"
    CONTROLLER = "Train controller"
    NODE = "node"
    NODE_TOLD = "node, with notice"
    HEAD = "head"
    SERVER = "MLflow server"


# What ends attempts by force. After three in a row without a new epoch a trial fails, as it should.
OF_A_TRIAL = frozenset({Victim.WORKER, Victim.TRIAL, Victim.CONTROLLER, Victim.NODE})
# What only a cluster of several nodes has.
OF_A_CLUSTER = frozenset({Victim.NODE, Victim.NODE_TOLD, Victim.HEAD})


@dataclass(frozen=True)
class Kill:
    """One blow: once the search has made `progress` epochs and the victim has been there for `delay_s`.

    With a `progress` of None it falls after the last trial, while the search is concluded. `choice`, in
    [0, 1), says which of several is hit; what has to be started again by us stays away for `pause_s`.
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
    """Return `num_kills` kills in their order, each victim as often as any other, give or take one.

    All but those `at_the_end` fall within the first `num_epochs` epochs of the search: as many as it makes
    for sure.
    """
    random = Random(seed)
    during = [victims[index % len(victims)] for index in range(num_kills - len(at_the_end))]
    random.shuffle(during)
    moments: list[int | None] = [*sorted(random.randrange(num_epochs) for _ in during)]
    moments += [None] * len(at_the_end)
    return [
        Kill(
            victim=victim,
            progress=progress,
            delay_s=random.uniform(0, MAX_DELAY_S),
            choice=random.random(),
            pause_s=random.uniform(0, MAX_PAUSE_S),
        )
        for victim, progress in zip([*during, *at_the_end], moments, strict=True)
    ]
