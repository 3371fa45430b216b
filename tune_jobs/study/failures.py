"""When a trial, or a whole search, has failed: pure functions of what the study holds."""

import math
from collections.abc import Mapping, Sequence
from numbers import Real

from tune_jobs.study.records import NOT_CHARGED, AttemptEnd, Reason, State, TrialRecord

MAX_FRUITLESS_ATTEMPTS = 3
MIN_COMMON_FAILURES = 3


def failure_reason(record: TrialRecord) -> AttemptEnd | None:
    """Return the end of an attempt that ends its trial too, None where the trial may be handed out again.

    That is the newest one if its reason would only repeat, or if it is the third in a row that ended by
    itself without a new epoch. Attempts that ended with their launcher, or because the cluster took their
    nodes back or had no room, are passed over.
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
    """Return in one line that all trials that ended, three or more, failed for one reason; else None."""
    ended = [record for record in records if record.counts and record.state != State.RUNNING]
    outcomes = {(record.state, record.reason) for record in ended}
    if len(ended) < MIN_COMMON_FAILURES or len(outcomes) > 1 or ended[0].state != State.FAIL:
        return None
    return f"the first {len(ended)} trials failed alike ({ended[0].reason}): {ended[0].message}"


def as_numbers(metrics: Mapping[str, object]) -> dict[str, float]:
    """Return reported metrics as floats: NaN for what is no number, infinity for what no float can hold."""
    return {name: _as_number(value) for name, value in metrics.items()}


def _as_number(value: object) -> float:
    try:
        return float(value) if isinstance(value, Real) else math.nan
    except OverflowError:
        return math.inf
