import time

import pytest

from tune_jobs.doctor.clocks import WRITTEN_S, ahead_s, clock_finding, clock_notes
from tune_jobs.doctor.finding import Level

NOW_S = WRITTEN_S + 1e6


@pytest.mark.parametrize(
    ("theirs_s", "ahead"), [(10.0, 0.0), (12.0, 0.0), (11.0, 0.0), (20.0, 8.0), (3.0, -7.0), (9.0, -1.0)]
)
def test_a_clock_is_off_by_what_the_time_of_the_question_does_not_explain(
    theirs_s: float, ahead: float
) -> None:
    assert ahead_s(before_s=10.0, theirs_s=theirs_s, after_s=12.0) == ahead


def test_what_a_coarse_clock_leaves_out_is_no_difference() -> None:
    assert ahead_s(before_s=10.7, theirs_s=10.0, after_s=10.8, resolution_s=1.0) == 0.0
    assert ahead_s(before_s=10.7, theirs_s=9.0, after_s=10.8, resolution_s=1.0) == pytest.approx(-0.7)


@pytest.mark.parametrize("ahead", [0.0, 4.9, -4.9])
def test_a_clock_that_is_right_is_no_news(ahead: float) -> None:
    assert list(clock_notes("the server", ahead)) == []


@pytest.mark.parametrize(("ahead", "words"), [(6.0, "6 s ahead"), (-1000.0, "1,000 s behind")])
def test_a_clock_that_is_wrong_is_noted(ahead: float, words: str) -> None:
    (finding,) = clock_notes("the server", ahead)
    assert finding.level == Level.NOTE
    assert finding.found == f"that of the server is {words} of this machine's"


@pytest.mark.parametrize(
    ("wall_s", "jump_s", "level"),
    [(NOW_S, 0.01, Level.OK), (NOW_S, -3.0, Level.NOTE), (3600.0, 0.0, Level.NOTE)],
)
def test_this_machines_clock_must_be_in_its_time_and_run_evenly(
    wall_s: float, jump_s: float, level: Level
) -> None:
    assert clock_finding(wall_s=wall_s, jump_s=jump_s).level == level


def test_no_clock_is_taken_for_past_now() -> None:
    assert time.time() > WRITTEN_S
