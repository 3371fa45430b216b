"""Clocks of this machine and of servers."""

import time
from collections.abc import Iterator

from tune_jobs.doctor.finding import Finding, note, ok

MAX_OFFSET_S = 5.0
MAX_JUMP_S = 0.5
HTTP_DATE_RESOLUTION_S = 1.0
OBSERVATION_S = 1.0
EARLIEST_S = 1_760_000_000  # when this was written; a correct clock shows a later time
SET_CLOCK = (
    "synchronize the clocks with NTP (timedatectl set-ntp true); S3 rejects requests that are 15 minutes off"
)


def clock_offset_s(*, before_s: float, remote_s: float, after_s: float, resolution_s: float = 0.0) -> float:
    """Return the minimum offset of a remote clock, read between two readings of the local clock.

    Negative if it is behind, 0 if the readings are consistent with equal clocks. `resolution_s` is that of
    the remote clock.
    """
    if remote_s > after_s:
        return remote_s - after_s
    return min(0.0, remote_s + resolution_s - before_s)


def clock_notes(owner: str, offset_s: float) -> Iterator[Finding]:
    """Yield a note if the clock of a server or node differs from the local clock."""
    if not abs(offset_s) <= MAX_OFFSET_S:
        message = f"the clock of {owner} is {shown_offset(offset_s)} this machine's"
        yield note("clock", message, SET_CLOCK)


def shown_offset(offset_s: float) -> str:
    """Return the offset of a clock as text."""
    return f"{abs(offset_s):,.0f} s {'ahead of' if offset_s > 0 else 'behind'}"


def clock_finding(*, wall_s: float, jump_s: float) -> Finding:
    """Return the finding on the clock of this machine; `jump_s` is its change during the observation."""
    date = time.strftime("%Y-%m-%d %H:%M:%S %Z", time.localtime(wall_s))
    if not wall_s > EARLIEST_S:
        return note("clock", f"{date}, which is in the past", SET_CLOCK)
    if not abs(jump_s) < MAX_JUMP_S:
        return note("clock", f"{date}, changed by {jump_s:+.1f} s within a second", SET_CLOCK)
    return ok("clock", date)


def check() -> Iterator[Finding]:
    """Yield the finding on the clock of this machine, compared with the monotonic clock for a second."""
    wall_s, steady_s = time.time(), time.monotonic()
    time.sleep(OBSERVATION_S)
    jump_s = (time.time() - wall_s) - (time.monotonic() - steady_s)
    yield clock_finding(wall_s=time.time(), jump_s=jump_s)
