from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.records import EpochRecord, State, TrialRecord
from tune_jobs.selection import best_of, pareto_front, spelled, violations
from tune_jobs.space.settings import Constraint, Objective

ACCURACY = Objective(metric="val/top1", direction="maximize")
SECONDS = Objective(metric="cost/seconds", direction="minimize")


def record(
    number: int, values: Sequence[float], *, violation: float = 0.0, state: State = State.COMPLETE
) -> TrialRecord:
    return TrialRecord(
        number=number, state=state, reason=None, message=None, parameters={}, config=None, epochs=(),
        attempts=1, started_ms=0, finished_ms=1, value=values[0], mlflow_run=None, values=tuple(values),
        violations={"c": violation},
    )  # fmt: skip


def numbers(records: Sequence[TrialRecord]) -> list[int]:
    return [record.number for record in records]


def test_the_front_holds_what_no_other_trial_dominates() -> None:
    values = [(0.9, 10.0), (0.8, 5.0), (0.8, 6.0), (0.7, 5.0), (0.9, 10.0), (0.95, 20.0)]
    records = [record(i, pair) for i, pair in enumerate(values)]
    assert numbers(pareto_front(records, (ACCURACY, SECONDS))) == [0, 1, 4, 5]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_the_front_is_the_one_of_the_definition(points: list[tuple[int, int, int]]) -> None:
    objectives = (ACCURACY, SECONDS, Objective(metric="x", direction="maximize"))
    records = [record(i, point) for i, point in enumerate(points)]

    def dominated(a: tuple[int, int, int]) -> bool:
        return any(b[0] >= a[0] and b[1] <= a[1] and b[2] >= a[2] and b != a for b in points)

    expected = [i for i, point in enumerate(points) if not dominated(point)]
    assert numbers(pareto_front(records, objectives)) == expected


@pytest.mark.parametrize(
    ("values", "objectives", "expected"),
    [
        ([(0.8,), (0.9,), (0.9,)], (ACCURACY,), 1),  # the lower number on a tie
        ([(3.0,), (2.0,)], (SECONDS,), 1),
        ([(0.9, 9.0), (0.9, 8.0), (0.5, 1.0)], (ACCURACY, SECONDS), 1),  # trial 0 is dominated
        ([(9.0, 0.9), (1.0, 0.5)], (SECONDS, ACCURACY), 1),  # the first objective decides
    ],
)
def test_the_winner_is_best_in_the_first_objective(
    values: list[tuple[float, ...]], objectives: tuple[Objective, ...], expected: int
) -> None:
    winner = best_of([record(i, pair) for i, pair in enumerate(values)], objectives)
    assert winner is not None
    assert winner.number == expected


def test_what_breaks_a_constraint_or_is_not_complete_never_wins() -> None:
    broken = record(0, (0.9,), violation=1e-9)
    running = record(1, (0.9,), state=State.RUNNING)
    assert best_of([broken, running], (ACCURACY,)) is None
    winner = best_of([broken, running, record(2, (0.1,))], (ACCURACY,))
    assert winner is not None
    assert winner.number == 2


@pytest.mark.parametrize(
    ("constraint", "words", "expected"),
    [
        (Constraint(metric="m", max=4000.0), "m <= 4000", 96.0),
        (Constraint(metric="m", max=4096.0), "m <= 4096", 0.0),
        (Constraint(metric="m", min=5000.0), "m >= 5000", 904.0),
        (Constraint(metric="m", min=0.5), "m >= 0.5", -4095.5),
        (Constraint(metric="other", max=1.0), "other <= 1", None),
    ],
)
def test_a_violation_is_how_far_the_last_report_lies_beyond_the_bound(
    constraint: Constraint, words: str, expected: float | None
) -> None:
    epochs = (EpochRecord(1, {"m": 9.0}, 0, 1), EpochRecord(2, {"m": 4096.0}, 1, 1), EpochRecord(3, {}, 2, 1))
    trial = replace(record(0, (0.5,)), epochs=epochs)
    assert spelled(constraint) == words
    assert violations(trial, (constraint,)) == {words: expected}


def test_every_constraint_must_hold(make_record: Callable[..., TrialRecord]) -> None:
    trial = make_record(0)
    assert trial.feasible
    assert not replace(trial, violations={"a": -1.0, "b": 0.1}).feasible
