"""Time spans in which trials were training, and idle time, from the attempts recorded in the study."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.snapshot import Launch, Snapshot

Span = tuple[int, int]  # milliseconds since 1970

COMPLETE, PRUNED, FAILED, PREEMPTED = "complete", "pruned", "failed", "preempted"
ATTEMPT_FAILED, STOPPED, RUNNING = "attempt failed, trial retried", "launcher stopped", "running"
_ENDS = {State.COMPLETE: COMPLETE, State.PRUNED: PRUNED, State.FAIL: FAILED}


@dataclass(frozen=True)
class AttemptSpan:
    """One attempt of a trial: start, end, and how it ended (one of the constants above)."""

    record: TrialRecord
    attempt: int
    start_ms: int
    end_ms: int
    ending: str


@dataclass(frozen=True)
class Idle:
    """Total time of a search, and the time without a trial in training, between and within launches."""

    total_ms: int
    between_ms: int
    within_ms: int


def attempt_spans(snapshot: Snapshot) -> list[AttemptSpan]:
    """Return every attempt of the trials and of the confirmation's seeds, in order for each trial."""
    records = [record for record in (*snapshot.counted, *snapshot.seeds) if record.attempts_started_ms]
    return [span for record in records for span in _spans_of(record, snapshot.launches)]


def launch_spans(snapshot: Snapshot) -> list[Span]:
    """Return the span of each launch; one span over all attempts if the study has no launches.

    Heartbeats are written only at intervals, so an attempt can end after its launch's last heartbeat.
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
    """Return the time of the search in which no trial was training."""
    launches = united(launch_spans(snapshot))
    if not launches:
        return Idle(0, 0, 0)
    total = launches[-1][1] - launches[0][0]
    launched = length(launches)
    busy = united((span.start_ms, span.end_ms) for span in attempt_spans(snapshot))
    return Idle(total, total - launched, launched - length(overlap(launches, busy)))


def united(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, with overlapping or touching ones merged."""
    found: list[Span] = []
    for start, end in sorted(spans):
        if found and start <= found[-1][1]:
            found[-1] = (found[-1][0], max(found[-1][1], end))
        else:
            found.append((start, end))
    return found


def overlap(some: Sequence[Span], others: Sequence[Span]) -> list[Span]:
    """Return the intersections of the spans of two lists."""
    pairs = ((max(a, c), min(b, d)) for a, b in some for c, d in others)
    return [(start, end) for start, end in pairs if start < end]


def length(spans: Iterable[Span]) -> int:
    """Return the total length of spans."""
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
    """When and how an attempt ended; without a record, at its launch's last heartbeat or its last epoch."""
    if is_last and record.state != State.RUNNING and record.finished_ms is not None:
        return record.finished_ms, _ENDS[record.state]
    newest = max((e.timestamp_ms for e in record.epochs if e.attempt == attempt), default=start_ms)
    recorded = next((end for end in record.attempt_ends if end.attempt == attempt), None)
    if recorded is not None:
        ending = PREEMPTED if recorded.reason == Reason.PREEMPTED else ATTEMPT_FAILED
        return recorded.ended_ms or newest, ending
    own = [launch for launch in launches if launch.started_ms <= start_ms <= launch.last_seen_ms]
    last_ms = max([newest, *(launch.last_seen_ms for launch in own[-1:])])
    is_newest_launch = not launches or (bool(own) and own[-1].number == launches[-1].number)
    return last_ms, RUNNING if is_last and is_newest_launch else STOPPED
