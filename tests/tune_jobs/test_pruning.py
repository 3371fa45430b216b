import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.pruning import RungValue, rungs, survives
from tune_jobs.space.settings import PrunerSettings


@pytest.mark.parametrize(
    ("min_epochs", "reduction_factor", "epochs", "expected"),
    [(2, 3, 8, (2, 6)), (1, 2, 8, (1, 2, 4)), (8, 3, 8, ()), (3, 3, 100, (3, 9, 27, 81))],
)
def test_rungs_grow_by_the_factor_and_end_before_the_last_epoch(
    min_epochs: int, reduction_factor: int, epochs: int, expected: tuple[int, ...]
) -> None:
    settings = PrunerSettings(
        kind="successive_halving", min_epochs=min_epochs, reduction_factor=reduction_factor
    )
    assert rungs(settings, epochs=epochs) == expected


def test_without_a_pruner_there_are_no_rungs() -> None:
    assert rungs(PrunerSettings(kind="none"), epochs=100) == ()


def values(*numbers: float) -> list[RungValue]:
    return [RungValue(timestamp_ms=10 * i, number=i, value=value) for i, value in enumerate(numbers)]


@pytest.mark.parametrize(
    ("recorded", "maximize", "expected"),
    [
        ((0.5,), True, [True]),  # the first one has nobody to lose to
        ((0.5, 0.6), True, [True, True]),
        ((0.5, 0.4), True, [True, False]),
        ((0.5, 0.5), True, [True, True]),  # ties go on
        ((0.5, 0.4), False, [True, True]),
        ((0.9, 0.8, 0.7, 0.6, 0.5, 0.85), True, [True, False, False, False, False, True]),  # two of six
    ],
)
def test_the_best_share_goes_on(recorded: tuple[float, ...], maximize: bool, expected: list[bool]) -> None:
    rung = values(*recorded)
    assert [survives(own, rung, reduction_factor=3, maximize=maximize) for own in rung] == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(2, 4), st.booleans())
def test_the_answer_does_not_change_when_others_report_later(
    numbers: list[float], reduction_factor: int, maximize: bool
) -> None:
    rung = values(*numbers)
    for own, end in itertools.combinations_with_replacement(range(len(rung)), 2):
        then = survives(rung[own], rung[: own + 1], reduction_factor=reduction_factor, maximize=maximize)
        later = survives(rung[own], rung[: end + 1], reduction_factor=reduction_factor, maximize=maximize)
        assert then == later
