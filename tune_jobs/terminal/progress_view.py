"""Progress of a search as plain values for the live panel, computed from the trial records."""

import math
import statistics
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tune_jobs.study.records import Direction, State, TrialRecord
from tune_jobs.wording import shown_parameters

MS = 1000.0


@dataclass(frozen=True)
class RunningTrial:
    """A running trial; values that need reported epochs are None until then."""

    label: str
    attempt: int
    num_workers: int
    epoch: int
    total_epochs: int
    value: float | None
    images_per_second: float | None
    epoch_s: float | None
    parameters: str

    @property
    def left_s(self) -> float | None:
        """Estimated seconds to its last epoch, at the mean speed of this attempt."""
        return None if self.epoch_s is None else self.epoch_s * (self.total_epochs - self.epoch)

    @property
    def progress(self) -> float:
        """Fraction of the epochs that are trained."""
        return max(0, self.epoch) / self.total_epochs


@dataclass(frozen=True)
class ProgressView:
    """State of a search, or of its confirmation, at one moment. `left_s` is an estimate, or None."""

    metric: str
    num_planned: int
    num_ended: int
    best: tuple[str, float, str] | None  # label, value, parameters
    running: tuple[RunningTrial, ...]
    ended: Mapping[str, Mapping[str, int]]  # state -> reason, "" for none -> count
    accelerator_hours: float
    left_s: float | None


def progress_view(
    records: Sequence[TrialRecord],
    *,
    live: Sequence[int],
    metric: str,
    direction: Direction,
    num_planned: int,
    since_ms: int,
    is_stopping: bool = False,
) -> ProgressView:
    """Return the progress of the trials.

    `live` holds the numbers of the trials that a worker group runs now. The time left is estimated from the
    trials that started since `since_ms`, the start of this launch, and have ended; it is None if
    `is_stopping`.
    """
    counted = [record for record in records if record.counts]
    running = tuple(_running(record, metric) for record in counted if record.number in live)
    ended = [record for record in counted if record.state != State.RUNNING]
    return ProgressView(
        metric=metric,
        num_planned=num_planned,
        num_ended=len(ended),
        best=_best(ended, maximize=direction == "maximize"),
        running=running,
        ended=_counts(ended),
        accelerator_hours=math.fsum(r.newest("cost/accelerator_hours") or 0.0 for r in counted),
        left_s=None if is_stopping else _left_s(ended, running, num_planned=num_planned, since_ms=since_ms),
    )


def _running(record: TrialRecord, metric: str) -> RunningTrial:
    series = record.series(metric)
    return RunningTrial(
        label=record.label,
        attempt=record.attempts,
        num_workers=record.workers[-1] if record.workers else 1,
        epoch=record.last_epoch,
        total_epochs=record.total_epochs,
        value=series[-1][1] if series else None,
        images_per_second=record.newest("cost/images_per_second"),
        epoch_s=_epoch_s(record),
        parameters=shown_parameters(record.parameters),
    )


def _epoch_s(record: TrialRecord) -> float | None:
    """Mean seconds per epoch in this attempt, the evaluation included."""
    times = [epoch.timestamp_ms for epoch in record.epochs if epoch.attempt == record.attempts]
    return (times[-1] - times[0]) / MS / (len(times) - 1) if len(times) > 1 else None


def _best(ended: Sequence[TrialRecord], *, maximize: bool) -> tuple[str, float, str] | None:
    found = [(record.value, record) for record in ended if record.value is not None and record.feasible]
    if not found:
        return None
    value, record = (max if maximize else min)(found, key=lambda pair: pair[0])
    return record.label, value, shown_parameters(record.parameters)


def _counts(ended: Sequence[TrialRecord]) -> dict[str, dict[str, int]]:
    states = [state for state in State if any(record.state == state for record in ended)]
    return {
        state.word: dict(Counter(r.reason or "" for r in ended if r.state == state).most_common())
        for state in states
    }


def _left_s(
    ended: Sequence[TrialRecord], running: Sequence[RunningTrial], *, num_planned: int, since_ms: int
) -> float | None:
    """Mean duration of this launch's trials, times the remaining trials, over the number that run now."""
    durations = [
        (record.finished_ms - record.started_ms) / MS
        for record in ended
        if record.finished_ms is not None and record.started_ms >= since_ms
    ]
    if not durations or not running:
        return None
    left = num_planned - len(ended) - math.fsum(trial.progress for trial in running)
    return statistics.fmean(durations) * max(0.0, left) / len(running)
