"""Process trees, read from /proc. Only descendants of processes that a test has started are killed."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """Process; `started` distinguishes it from a later one with the same pid. `title` is its command line."""

    pid: int
    started: int
    title: str


def process_tree(*roots: int) -> list[Process]:
    """Return the live processes with these pids and all their descendants."""
    found = {pid: entry for pid in _pids() if (entry := _read(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in found.items():
        children.setdefault(parent, []).append(pid)
    members, pending = [], [pid for pid in roots if pid in found]
    while pending:
        pid = pending.pop()
        members.append(found[pid][1])
        pending += children.get(pid, [])
    return members


def is_alive(process: Process) -> bool:
    """Return whether a process still runs, even if its pid was reused."""
    entry = _read(process.pid)
    return entry is not None and entry[1].started == process.started


def kill(processes: Iterable[Process]) -> None:
    """Send SIGKILL to processes."""
    for process in processes:
        if is_alive(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def survivors(processes: Iterable[Process], *, timeout_s: float) -> list[Process]:
    """Wait for processes to exit; return those that are alive after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.1)
        alive = [process for process in alive if is_alive(process)]
    return alive


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time of a process without its children, None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int) -> tuple[int, Process] | None:
    """Parent pid and process, None if it has ended or is a zombie."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The second field is the command in parentheses, which may contain any character; see proc(5).
    fields = status.rpartition(")")[2].split()
    state, parent, started = fields[0], int(fields[1]), int(fields[19])
    return None if state in "ZX" else (parent, Process(pid, started, title.strip()))
