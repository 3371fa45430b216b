from collections import Counter

import pytest

from .schedule import Victim, draw_schedule

AT_THE_END = (Victim.SERVER, Victim.LAUNCHER)
NUM_KILLS = 2 * len(Victim) + len(AT_THE_END)


def draw(seed: int) -> list[object]:
    victims = tuple(Victim)
    return [*draw_schedule(seed, num_kills=NUM_KILLS, num_epochs=20, victims=victims, at_the_end=AT_THE_END)]


def test_the_schedule_depends_only_on_the_seed() -> None:
    assert draw(3) == draw(3)
    assert draw(3) != draw(4)


@pytest.mark.parametrize("seed", range(20))
def test_every_victim_is_killed_and_kills_at_the_end_are_last(seed: int) -> None:
    schedule = draw_schedule(
        seed, num_kills=NUM_KILLS, num_epochs=20, victims=tuple(Victim), at_the_end=AT_THE_END
    )
    during = [kill.victim for kill in schedule if kill.progress is not None]
    times = [kill.progress for kill in schedule if kill.progress is not None]
    assert Counter(during) == dict.fromkeys(Victim, 2)
    assert [kill.victim for kill in schedule[-2:]] == [*AT_THE_END]
    assert times == sorted(times)
    assert 0 <= times[0] <= times[-1] < 20
