import math
from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest

from tune_jobs.study.failures import as_numbers, common_failure, failure_reason
from tune_jobs.study.records import AttemptEnd, EpochRecord, Reason, TrialRecord

RecordMaker = Callable[..., TrialRecord]


def ends(*attempts: int, reason: Reason = Reason.ERROR) -> tuple[AttemptEnd, ...]:
    return tuple(AttemptEnd(attempt, reason, f"of attempt {attempt}") for attempt in attempts)


@pytest.mark.parametrize(
    ("attempt_ends", "epoch_attempts", "expected"),
    [
        ((), (), None),
        (ends(1, 2), (), None),
        (ends(1, 2, 3), (), 3),
        (ends(2, 5, 6), (), 6),  # attempts 1, 3 and 4 ended with their launcher
        (ends(1, 2, 3), (2,), None),  # the second attempt reported an epoch
        (ends(1, 2, 3, 4), (1,), 4),
        (ends(1, reason=Reason.NON_FINITE), (1,), 1),  # a retry would repeat it
        (ends(1, 2, 3, reason=Reason.HUNG), (), 3),
        (ends(1, 2, 3, reason=Reason.WORKER_LOST), (), 3),
        (ends(1, 2, 3, 4, reason=Reason.PREEMPTED), (), None),  # caused by the cluster
        (ends(1, 2, 3, 4, reason=Reason.NO_RESOURCES), (), None),
        (ends(1, 2) + ends(3, reason=Reason.PREEMPTED), (), None),
        (ends(1, 2) + ends(3, reason=Reason.PREEMPTED) + ends(4), (), 4),
    ],
)
def test_three_attempts_without_progress_or_a_repeatable_error_fail_a_trial(
    make_record: RecordMaker,
    attempt_ends: tuple[AttemptEnd, ...],
    epoch_attempts: tuple[int, ...],
    expected: int | None,
) -> None:
    epochs = tuple(EpochRecord(i, {}, i, attempt) for i, attempt in enumerate(epoch_attempts))
    end = failure_reason(replace(make_record(0, "RUNNING"), attempt_ends=attempt_ends, epochs=epochs))
    assert (end.attempt if end else None) == expected


def failed(make_record: RecordMaker, number: int, reason: str = "error") -> TrialRecord:
    return make_record(number, "FAIL", reason=reason, message="no such file")


def test_three_trials_that_fail_with_the_same_error_give_one_message(
    make_record: RecordMaker,
) -> None:
    refused = make_record(0, "FAIL", reason="invalid")
    running = make_record(4, "RUNNING")
    first = [failed(make_record, number) for number in (1, 2, 3)]
    assert (
        common_failure([refused, *first, running])
        == "the first 3 trials failed with the same error (error): no such file"
    )


@pytest.mark.parametrize("other", ["COMPLETE", "PRUNED", "other reason", "too few"])
def test_trials_that_do_not_all_fail_with_the_same_error_do_not_stop_a_search(
    make_record: RecordMaker, other: str
) -> None:
    fourth = {
        "COMPLETE": [make_record(2), failed(make_record, 3)],
        "PRUNED": [make_record(2, "PRUNED", reason="rung"), failed(make_record, 3)],
        "other reason": [failed(make_record, 2, "non-finite"), failed(make_record, 3)],
        "too few": [],
    }[other]
    assert common_failure([failed(make_record, 0), failed(make_record, 1), *fourth]) is None


def test_non_numbers_become_nan_and_out_of_range_numbers_infinity() -> None:
    metrics = {
        "int": 1, "numpy": np.float32(0.5), "fraction": Fraction(1, 4), "text": "0.5", "none": None,
        "list": [0.5], "huge": 10**400,
    }  # fmt: skip
    found = as_numbers(metrics)
    assert [found[name] for name in ("int", "numpy", "fraction")] == [1.0, 0.5, 0.25]
    assert all(math.isnan(found[name]) for name in ("text", "none", "list"))
    assert math.isinf(found["huge"])
