"""Clocks: this machine's, and how far those of others are from it."""

import time
from collections.abc import Iterator

from tune_jobs.doctor.finding import Finding, note, ok

MOST_OFF_S = 5.0
SECOND_S = 1.0
WATCHED_S = 1.0
# When this was written: no right clock is behind it.
WRITTEN_S = 1_760_000_000
SET_CLOCK = "let NTP set the clocks (timedatectl set-ntp true); S3 refuses what is 15 minutes off"


def ahead_s(*, before_s: float, theirs_s: float, after_s: float, resolution_s: float = 0.0) -> float:
    """Return by how much a clock is ahead at least that said `theirs_s` between two readings of ours.

    Negative where it is behind, 0 where nothing is known against it. Its last digit counts `resolution_s`.
    """
    if theirs_s > after_s:
        return theirs_s - after_s
    return min(0.0, theirs_s + resolution_s - before_s)


def clock_notes(whose: str, ahead: float) -> Iterator[Finding]:
    """Yield a line for the clock of a server that is not right, or ours is not."""
    if not abs(ahead) <= MOST_OFF_S:
        words = f"that of {whose} is {shown_seconds(ahead)} of this machine's"
        yield note("clock", words, SET_CLOCK)


def shown_seconds(ahead: float) -> str:
    """Return by how much a clock is off, in words."""
    return f"{abs(ahead):,.0f} s {'ahead' if ahead > 0 else 'behind'}"


def clock_finding(*, wall_s: float, jump_s: float) -> Finding:
    """Return whether this machine's clock may be right; `jump_s` is by how much it was set while watched."""
    date = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(wall_s))
    if not wall_s > WRITTEN_S:
        return note("clock", f"{date}, which is in the past", SET_CLOCK)
    if not abs(jump_s) < SECOND_S / 2:
        return note("clock", f"{date}, set by {jump_s:+.1f} s within a second", SET_CLOCK)
    return ok("clock", date)


def look() -> Iterator[Finding]:
    """Yield a line for this machine's clock, watched for a second beside the one that nobody sets."""
    wall_s, steady_s = time.time(), time.monotonic()
    time.sleep(WATCHED_S)
    jump_s = (time.time() - wall_s) - (time.monotonic() - steady_s)
    yield clock_finding(wall_s=time.time(), jump_s=jump_s)
