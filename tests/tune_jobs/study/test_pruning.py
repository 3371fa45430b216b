import itertools
import statistics
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcon.config import TrainConfig
from tune_jobs.space.settings import Objective, PrunerSettings
from tune_jobs.study.pruning import RungValue, bracket_of, prune_reason, rungs, survives
from tune_jobs.study.records import EpochRecord, Reason, State, TrialRecord

HYPERBAND = PrunerSettings(kind="hyperband", min_epochs=1, reduction_factor=3)
MEDIAN = PrunerSettings(kind="median", min_epochs=2)
HALVING = PrunerSettings(kind="successive_halving", min_epochs=1, reduction_factor=2)
TOP1 = Objective(metric="val/top1", direction="maximize")


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
        ((0.5,), True, [True]),  # the first trial has no competitors
        ((0.5, 0.6), True, [True, True]),
        ((0.5, 0.4), True, [True, False]),
        ((0.5, 0.5), True, [True, True]),  # ties continue
        ((0.5, 0.4), False, [True, True]),
        (
            (0.9, 0.8, 0.7, 0.6, 0.5, 0.85),
            True,
            [True, False, False, False, False, True],
        ),  # the best two of six continue
    ],
)
def test_the_best_share_of_a_rung_continues(
    recorded: tuple[float, ...], maximize: bool, expected: list[bool]
) -> None:
    rung = values(*recorded)
    assert [survives(own, rung, reduction_factor=3, maximize=maximize) for own in rung] == expected


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12), st.integers(2, 4), st.booleans())
def test_a_rung_decision_does_not_depend_on_later_reports(
    numbers: list[float], reduction_factor: int, maximize: bool
) -> None:
    rung = values(*numbers)
    for own, end in itertools.combinations_with_replacement(range(len(rung)), 2):
        then = survives(rung[own], rung[: own + 1], reduction_factor=reduction_factor, maximize=maximize)
        later = survives(rung[own], rung[: end + 1], reduction_factor=reduction_factor, maximize=maximize)
        assert then == later


def trial(
    number: int, series: Sequence[float], *, epochs: int, start_ms: int = 0, metric: str = "val/top1"
) -> TrialRecord:
    """A trial that reported epochs 1, 2, ... every 1,000 ms from `start_ms` on."""
    reported = tuple(
        EpochRecord(epoch, {metric: value}, start_ms + 1000 * epoch + number, 1)
        for epoch, value in enumerate(series, 1)
    )
    config = TrainConfig.from_flat({"optim.epochs": epochs, "optim.warmup_epochs": 0}).flat()
    return TrialRecord(
        number=number, state=State.RUNNING, reason=None, message=None, parameters={}, config=config,
        epochs=reported, attempts=1, started_ms=0, finished_ms=None, value=None, mlflow_run=None,
    )  # fmt: skip


def decide(
    record: TrialRecord, others: Sequence[TrialRecord], pruner: PrunerSettings, objective: Objective = TOP1
) -> Reason | None:
    return prune_reason(record, [*others, record], pruner=pruner, objective=objective)


def test_hyperband_samples_brackets_in_the_proportions_of_the_paper() -> None:
    """R = 9, factor 3: brackets of 9, 5 and 3 configurations (Li et al. 2018, algorithm 1)."""
    drawn = Counter(bracket_of(number, pruner=HYPERBAND, epochs=9) for number in range(17_000))
    assert sorted(drawn) == [0, 1, 2]
    assert [drawn[bracket] / 1000 for bracket in range(3)] == pytest.approx([9, 5, 3], rel=0.1)


def test_a_later_bracket_has_fewer_rungs_and_the_last_one_none() -> None:
    assert [rungs(HYPERBAND, epochs=9, bracket=bracket) for bracket in range(3)] == [(1, 3), (3,), ()]


@pytest.mark.parametrize("pruner", [HALVING, MEDIAN, PrunerSettings(kind="none")])
def test_other_pruners_have_one_bracket(pruner: PrunerSettings) -> None:
    assert {bracket_of(number, pruner=pruner, epochs=100) for number in range(50)} == {0}


def test_a_trial_competes_only_within_its_bracket() -> None:
    brackets = {number: bracket_of(number, pruner=HYPERBAND, epochs=9) for number in range(60)}
    own = max(number for number, bracket in brackets.items() if bracket == 0)
    better = [trial(number, [0.9], epochs=9) for number in range(own)]
    of_other_brackets = [record for record in better if brackets[record.number] != 0]
    bad = trial(own, [0.1], epochs=9, start_ms=5000)
    assert decide(bad, of_other_brackets, HYPERBAND) is None
    assert decide(bad, better, HYPERBAND) is Reason.RUNG


def test_a_rung_is_decided_only_once() -> None:
    best = [trial(number, [0.9, 0.9], epochs=4) for number in range(4)]
    assert decide(trial(9, [0.1, 0.1, 0.1], epochs=4, start_ms=9000), best, HALVING) is None
    assert decide(trial(9, [0.1, 0.1], epochs=4, start_ms=9000), best, HALVING) is Reason.RUNG


FINISHED = [
    [0.1, 0.2, 0.3, 0.4],
    [0.2, 0.4, 0.6, 0.8],
    [0.3, 0.3, 0.3, 0.9],
    [0.5, 0.5, 0.5, 0.5],
    [0.0, 0.0, 0.9, 0.9],
]


@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
@pytest.mark.parametrize("offset", [-0.01, 0.0, 0.01])
def test_a_trial_behind_the_median_of_the_running_averages_is_pruned(epoch: int, offset: float) -> None:
    """Golovin et al. 2017, section 3.2.2: strictly worse than the median."""
    finished = [trial(number, series, epochs=4) for number, series in enumerate(FINISHED)]
    best = statistics.median(statistics.fmean(series[:epoch]) for series in FINISHED) + offset
    record = trial(9, [0.0] * (epoch - 1) + [best], epochs=4, start_ms=10_000)
    is_pruned = offset < 0 and 2 <= epoch < 4  # from min_epochs on, but not after the last epoch
    assert decide(record, finished, MEDIAN) is (Reason.MEDIAN if is_pruned else None)


def test_the_median_rule_uses_the_best_value_so_far() -> None:
    finished = [trial(number, series, epochs=4) for number, series in enumerate(FINISHED)]
    assert decide(trial(9, [0.9, 0.0], epochs=4, start_ms=10_000), finished, MEDIAN) is None


def test_the_median_rule_works_for_minimised_objectives() -> None:
    seconds = Objective(metric="cost/seconds", direction="minimize")
    finished = [
        trial(n, [v * 10 for v in s], epochs=4, metric="cost/seconds") for n, s in enumerate(FINISHED)
    ]
    slow = trial(9, [99.0, 98.0], epochs=4, start_ms=10_000, metric="cost/seconds")
    quick = trial(9, [99.0, 0.1], epochs=4, start_ms=10_000, metric="cost/seconds")
    assert decide(slow, finished, MEDIAN, seconds) is Reason.MEDIAN
    assert decide(quick, finished, MEDIAN, seconds) is None


def test_the_median_rule_needs_five_finished_trials() -> None:
    finished = [trial(number, series, epochs=4) for number, series in enumerate(FINISHED)]
    unfinished = replace(finished[0], epochs=finished[0].epochs[:3])
    assert (
        decide(trial(9, [0.0, 0.0], epochs=4, start_ms=10_000), [unfinished, *finished[1:]], MEDIAN) is None
    )


@given(
    st.lists(st.lists(st.floats(0, 1), min_size=1, max_size=4), min_size=1, max_size=12),
    st.sampled_from([HALVING, MEDIAN, HYPERBAND]),
)
def test_decisions_do_not_depend_on_later_reports(
    all_series: list[list[float]], pruner: PrunerSettings
) -> None:
    """After each epoch of each trial, with the records of that time and with the final ones."""
    records = [trial(n, series, epochs=4, start_ms=700 * n) for n, series in enumerate(all_series)]
    for record in records:
        for count in range(1, len(record.epochs) + 1):
            current = replace(record, epochs=record.epochs[:count])
            now_ms = current.epochs[-1].timestamp_ms
            then = [
                replace(other, epochs=tuple(e for e in other.epochs if e.timestamp_ms <= now_ms))
                for other in records
            ]
            decisions = {
                prune_reason(current, [*others[: record.number], current, *others[record.number + 1 :]],
                           pruner=pruner, objective=TOP1)
                for others in (then, records)
            }  # fmt: skip
            assert len(decisions) == 1
