import time

import pytest

from tune_jobs.doctor.clocks import EARLIEST_S, clock_finding, clock_notes, clock_offset_s
from tune_jobs.doctor.finding import Level

NOW_S = EARLIEST_S + 1e6


@pytest.mark.parametrize(
    ("remote_s", "offset_s"), [(10.0, 0.0), (12.0, 0.0), (11.0, 0.0), (20.0, 8.0), (3.0, -7.0), (9.0, -1.0)]
)
def test_the_duration_of_the_request_does_not_count_as_offset(remote_s: float, offset_s: float) -> None:
    assert clock_offset_s(before_s=10.0, remote_s=remote_s, after_s=12.0) == offset_s


def test_the_resolution_of_a_clock_does_not_count_as_offset() -> None:
    assert clock_offset_s(before_s=10.7, remote_s=10.0, after_s=10.8, resolution_s=1.0) == 0.0
    assert clock_offset_s(before_s=10.7, remote_s=9.0, after_s=10.8, resolution_s=1.0) == pytest.approx(-0.7)


@pytest.mark.parametrize("offset_s", [0.0, 4.9, -4.9])
def test_a_correct_clock_has_no_finding(offset_s: float) -> None:
    assert list(clock_notes("the server", offset_s)) == []


@pytest.mark.parametrize(("offset_s", "words"), [(6.0, "6 s ahead of"), (-1000.0, "1,000 s behind")])
def test_a_wrong_clock_is_noted(offset_s: float, words: str) -> None:
    (finding,) = clock_notes("the server", offset_s)
    assert finding.level == Level.NOTE
    assert finding.message == f"the clock of the server is {words} this machine's"


@pytest.mark.parametrize(
    ("wall_s", "jump_s", "level"),
    [(NOW_S, 0.01, Level.OK), (NOW_S, -3.0, Level.NOTE), (3600.0, 0.0, Level.NOTE)],
)
def test_the_local_clock_must_be_plausible_and_steady(wall_s: float, jump_s: float, level: Level) -> None:
    assert clock_finding(wall_s=wall_s, jump_s=jump_s).level == level


def test_the_current_time_is_plausible() -> None:
    assert time.time() > EARLIEST_S
