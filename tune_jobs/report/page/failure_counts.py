"""Why trials and attempts failed, counted."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from tune_jobs.report.page.section import Table
from tune_jobs.study.records import State
from tune_jobs.study.snapshot import Snapshot

MAX_MESSAGES, MAX_LETTERS, MAX_TRIALS = 3, 600, 12


@dataclass(frozen=True)
class Failure:
    """Something that failed: a trial, or an attempt of one that went on."""

    what: str
    reason: str
    message: str
    trial: str


def failures(snapshot: Snapshot) -> list[Failure]:
    """Return the trials and seeds that failed, then the attempts that ended early, each in order.

    The attempt that ended a failed trial is not counted again.
    """
    records = [*snapshot.counted, *snapshot.seeds]
    trials = [
        Failure("trial", record.reason or "", record.message or "", record.label)
        for record in records
        if record.state == State.FAIL
    ]
    attempts = [
        Failure("attempt", end.reason, end.message, record.label)
        for record in records
        for end in record.attempt_ends
        if not (record.state == State.FAIL and end.attempt == record.attempts)
    ]
    return [*trials, *attempts]


def failure_table(snapshot: Snapshot) -> Table | None:
    """Return the failures by what failed and why, the most frequent first; None where nothing failed."""
    found = failures(snapshot)
    groups = Counter((failure.what, failure.reason) for failure in found)
    if not groups:
        return None
    rows = []
    for (what, reason), count in sorted(groups.items(), key=lambda item: (item[0][0] != "trial", -item[1])):
        own = [failure for failure in found if (failure.what, failure.reason) == (what, reason)]
        trials = dict.fromkeys(failure.trial for failure in own)
        rows.append(
            (what, reason, str(count), _listed(trials), _messages(failure.message for failure in own))
        )
    return Table(("what", "reason", "count", "trials", "messages"), tuple(rows), numbers=frozenset({2}))


def _listed(trials: Iterable[str]) -> str:
    names = list(trials)
    more = f" and {len(names) - MAX_TRIALS} more" if len(names) > MAX_TRIALS else ""
    return ", ".join(names[:MAX_TRIALS]) + more


def _messages(messages: Iterable[str]) -> str:
    """The most frequent messages, each once, cut where they are very long."""
    found = Counter(messages)
    lines = [
        (f"{count} x " if count > 1 else "")
        + (text if len(text) <= MAX_LETTERS else f"{text[:MAX_LETTERS]} ...")
        for text, count in found.most_common(MAX_MESSAGES)
    ]
    more = len(found) - MAX_MESSAGES
    return "\n".join(
        [*lines, *([f"and {more} other messages" if more > 1 else "and 1 other message"] if more > 0 else [])]
    )
