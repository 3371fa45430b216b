"""Rules for the failure of a trial or of a search: pure functions of the records."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from tune_jobs.study.records import NOT_CHARGED, AttemptEnd, Reason, State, TrialRecord

MAX_FRUITLESS_ATTEMPTS = 3
MIN_COMMON_FAILURES = 3


def failure_reason(record: TrialRecord) -> AttemptEnd | None:
    """Return the end of the attempt that makes its trial fail; None if the trial can be retried.

    A trial fails if the newest attempt failed for a reason that a retry would repeat, or if three attempts in
    a row failed without a new epoch. Attempts do not count if their launcher ended, their node was preempted,
    or the cluster had insufficient resources.
    """
    if not record.attempt_ends:
        return None
    newest = record.attempt_ends[-1]
    fruitful = max((epoch.attempt for epoch in record.epochs), default=0)
    counted = (end for end in record.attempt_ends if end.reason not in NOT_CHARGED)
    fruitless = sum(end.attempt > fruitful for end in counted)
    will_repeat = newest.reason == Reason.NON_FINITE
    return newest if will_repeat or fruitless >= MAX_FRUITLESS_ATTEMPTS else None


def common_failure(records: Sequence[TrialRecord]) -> str | None:
    """Return a message if all ended trials, at least three, failed with the same error; else None."""
    ended = [record for record in records if record.counts and record.state != State.RUNNING]
    outcomes = {(record.state, record.reason) for record in ended}
    if len(ended) < MIN_COMMON_FAILURES or len(outcomes) > 1 or ended[0].state != State.FAIL:
        return None
    return f"the first {len(ended)} trials failed with the same error ({ended[0].reason}): {ended[0].message}"


def as_numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return reported metrics as floats: NaN for values that are not numbers, infinity for those out of
    range."""
    return {name: _as_number(value) for name, value in metrics.items()}


def _as_number(value: object) -> float:
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.inf
