"""When trials were in training and when none was, as spans of time, by what the study keeps of attempts."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.snapshot import Launch, Snapshot

Span = tuple[int, int]  # milliseconds since 1970

COMPLETE, PRUNED, FAILED, PREEMPTED = "complete", "pruned", "failed", "preempted"
ATTEMPT_FAILED, STOPPED, RUNNING = "attempt failed, trial goes on", "launcher stopped", "running"
_ENDS = {State.COMPLETE: COMPLETE, State.PRUNED: PRUNED, State.FAIL: FAILED}


@dataclass(frozen=True)
class AttemptSpan:
    """One attempt of a trial: from when to when, and how it ended (one of the words above)."""

    record: TrialRecord
    attempt: int
    start_ms: int
    end_ms: int
    ending: str


@dataclass(frozen=True)
class Idle:
    """How long no trial was in training, between launches and within them, and how long all took."""

    total_ms: int
    between_ms: int
    within_ms: int


def attempt_spans(snapshot: Snapshot) -> list[AttemptSpan]:
    """Return every attempt of the trials and of the seeds of the confirmation, each trial's in order."""
    records = [record for record in (*snapshot.counted, *snapshot.seeds) if record.attempts_started_ms]
    return [span for record in records for span in _spans_of(record, snapshot.launches)]


def launch_spans(snapshot: Snapshot) -> list[Span]:
    """Return from when to when each launch is known to have lived, all in one where nothing is said.

    It writes that it lives now and then only, so what it trained may end later than it was last seen.
    """
    attempts = [(span.start_ms, span.end_ms) for span in attempt_spans(snapshot)]
    if not snapshot.launches:
        return [(min(start for start, _ in attempts), max(end for _, end in attempts))] if attempts else []
    starts = [launch.started_ms for launch in snapshot.launches]
    found = []
    for launch, until in zip(snapshot.launches, [*starts[1:], math.inf], strict=True):
        ends = [end for start, end in attempts if launch.started_ms <= start < until]
        found.append((launch.started_ms, max([launch.last_seen_ms, *ends])))
    return found


def idle(snapshot: Snapshot) -> Idle:
    """Return how much of the search's time passed without a trial in training."""
    launches = united(launch_spans(snapshot))
    if not launches:
        return Idle(0, 0, 0)
    total = launches[-1][1] - launches[0][0]
    lived = length(launches)
    busy = united((span.start_ms, span.end_ms) for span in attempt_spans(snapshot))
    return Idle(total, total - lived, lived - length(overlap(launches, busy)))


def united(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, those that touch as one."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def overlap(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Return the time that lies in spans of both."""
    pairs = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return [(start, end) for start, end in pairs if start < end]


def length(spans: Iterable[Span]) -> int:
    """Return how long spans are together."""
    return sum(end - start for start, end in spans)


def _spans_of(record: TrialRecord, launches: Sequence[Launch]) -> list[AttemptSpan]:
    starts = record.attempts_started_ms
    spans = []
    for place, start in enumerate(starts):
        next_start = starts[place + 1] if place + 1 < len(starts) else None
        end, ending = _end(record, place + 1, start, is_last=next_start is None, launches=launches)
        limit = end if next_start is None else min(end, next_start)
        spans.append(AttemptSpan(record, place + 1, start, max(start, limit), ending))
    return spans


def _end(
    record: TrialRecord, attempt: int, start_ms: int, *, is_last: bool, launches: Sequence[Launch]
) -> tuple[int, str]:
    """When and how an attempt ended; what nothing tells of lived as long as its launch, or its last epoch."""
    if is_last and record.state != State.RUNNING and record.finished_ms is not None:
        return record.finished_ms, _ENDS[record.state]
    newest = max((e.timestamp_ms for e in record.epochs if e.attempt == attempt), default=start_ms)
    told = next((end for end in record.attempt_ends if end.attempt == attempt), None)
    if told is not None:
        ending = PREEMPTED if told.reason == Reason.PREEMPTED else ATTEMPT_FAILED
        return told.ended_ms or newest, ending
    own = [launch for launch in launches if launch.started_ms <= start_ms <= launch.last_seen_ms]
    seen = max([newest, *(launch.last_seen_ms for launch in own[-1:])])
    is_newest_launch = not launches or (bool(own) and own[-1].number == launches[-1].number)
    return seen, RUNNING if is_last and is_newest_launch else STOPPED
