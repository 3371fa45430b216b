from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.space.settings import Constraint, Objective
from tune_jobs.study.records import EpochRecord, State, TrialRecord
from tune_jobs.study.selection import Candidate, by_mean, constraint_text, pareto_front, ranked, violations

ACCURACY = Objective(metric="val/top1", direction="maximize")
SECONDS = Objective(metric="cost/seconds", direction="minimize")


def record(
    number: int, values: Sequence[float], *, violation: float = 0.0, state: State = State.COMPLETE
) -> TrialRecord:
    return TrialRecord(
        number=number, state=state, reason=None, message=None, parameters={}, config=None, epochs=(),
        attempts=1, started_ms=0, finished_ms=1, value=values[0] if values else None, mlflow_run=None,
        values=tuple(values), violations={"c": violation},
    )  # fmt: skip


def numbers(records: Sequence[TrialRecord]) -> list[int]:
    return [record.number for record in records]


def test_the_front_has_the_trials_that_no_other_dominates() -> None:
    values = [(0.9, 10.0), (0.8, 5.0), (0.8, 6.0), (0.7, 5.0), (0.9, 10.0), (0.95, 20.0)]
    records = [record(i, pair) for i, pair in enumerate(values)]
    assert numbers(pareto_front(records, (ACCURACY, SECONDS))) == [0, 1, 4, 5]


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 4)), max_size=12))
def test_the_front_matches_its_definition(points: list[tuple[int, int, int]]) -> None:
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
    assert ranked([record(i, pair) for i, pair in enumerate(values)], objectives)[0].number == expected


def test_infeasible_and_incomplete_trials_never_win() -> None:
    infeasible = record(0, (0.9,), violation=1e-9)
    running = record(1, (0.9,), state=State.RUNNING)
    assert ranked([infeasible, running], (ACCURACY,)) == []
    assert numbers(ranked([infeasible, running, record(2, (0.1,))], (ACCURACY,))) == [2]


def test_trials_are_ranked_by_the_first_objective_with_several_only_the_front() -> None:
    one = [record(i, (value,)) for i, value in enumerate([0.7, 0.9, 0.8, 0.9])]
    assert numbers(ranked(one, (ACCURACY,))) == [1, 3, 2, 0]
    two = [record(i, pair) for i, pair in enumerate([(0.7, 1.0), (0.9, 9.0), (0.8, 9.0), (0.8, 5.0)])]
    assert numbers(ranked(two, (ACCURACY, SECONDS))) == [1, 3, 0]


def candidate(number: int, *values: float | None, num_seeds: int = 3) -> Candidate:
    """A trial with its seeds; None is a failed seed."""
    assert values[0] is not None
    seeds = [
        record(i, () if value is None else (value,), state=State.FAIL if value is None else State.COMPLETE)
        for i, value in enumerate(values[1:])
    ]
    return Candidate(record(number, (values[0],)), tuple(seeds), num_seeds)


@pytest.mark.parametrize(
    ("candidates", "objective", "expected"),
    [
        ([candidate(0, 0.9, 0.1, 0.2), candidate(1, 0.5, 0.6, 0.7)], ACCURACY, [1, 0]),
        ([candidate(0, 0.9, 0.1, 0.2), candidate(1, 0.5, 0.6, 0.7)], SECONDS, [0, 1]),
        ([candidate(5, 0.5, 0.7, 0.6), candidate(2, 0.7, 0.6, 0.5)], ACCURACY, [2, 5]),
        ([candidate(0, 0.9, 0.9, None), candidate(1, 0.2, 0.1, 0.3)], ACCURACY, [1, 0]),  # a seed failed
        ([candidate(0, 0.9, 0.9), candidate(1, 0.2, 0.1, 0.3)], ACCURACY, [1, 0]),  # a seed is missing
        ([candidate(0, 0.8), candidate(1, 0.9)], ACCURACY, [1, 0]),  # no seed was trained yet
    ],
)
def test_the_best_mean_comes_first_and_candidates_with_missing_seeds_last(
    candidates: list[Candidate], objective: Objective, expected: list[int]
) -> None:
    assert [found.trial.number for found in by_mean(candidates, objective=objective)] == expected


def test_candidates_have_the_sample_mean_and_standard_deviation() -> None:
    found = candidate(0, 0.5, 0.7, 0.9)
    assert found.mean == pytest.approx(0.7)
    assert found.standard_deviation == pytest.approx(0.2)  # sqrt((0.04 + 0 + 0.04) / 2)
    assert found.is_complete
    alone = candidate(0, 0.5, None, None)
    assert (alone.mean, alone.standard_deviation, alone.is_complete) == (0.5, None, False)


@pytest.mark.parametrize(
    ("constraint", "text", "expected"),
    [
        (Constraint(metric="m", max=4000.0), "m <= 4000", 96.0),
        (Constraint(metric="m", max=4096.0), "m <= 4096", 0.0),
        (Constraint(metric="m", min=5000.0), "m >= 5000", 904.0),
        (Constraint(metric="m", min=0.5), "m >= 0.5", -4095.5),
        (Constraint(metric="other", max=1.0), "other <= 1", None),
    ],
)
def test_a_violation_is_the_excess_of_the_newest_value_over_the_bound(
    constraint: Constraint, text: str, expected: float | None
) -> None:
    epochs = (EpochRecord(1, {"m": 9.0}, 0, 1), EpochRecord(2, {"m": 4096.0}, 1, 1), EpochRecord(3, {}, 2, 1))
    trial = replace(record(0, (0.5,)), epochs=epochs)
    assert constraint_text(constraint) == text
    assert violations(trial, (constraint,)) == {text: expected}


def test_a_feasible_trial_satisfies_every_constraint(make_record: Callable[..., TrialRecord]) -> None:
    trial = make_record(0)
    assert trial.feasible
    assert not replace(trial, violations={"a": -1.0, "b": 0.1}).feasible
