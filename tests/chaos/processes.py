"""Processes by parentage, read from /proc: whom we may kill is told by descent, never by name alone."""

import os
import signal
import time
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Process:
    """A process; `started` tells it from a later one of the same number. Ray's workers have a `title`."""

    pid: int
    started: int
    title: str


def family(*roots: int) -> list[Process]:
    """Return the processes of these numbers and all their descendants, without the dead."""
    found = {pid: entry for pid in _pids() if (entry := _read(pid)) is not None}
    children: dict[int, list[int]] = {}
    for pid, (parent, _) in found.items():
        children.setdefault(parent, []).append(pid)
    members, waiting = [], [pid for pid in roots if pid in found]
    while waiting:
        pid = waiting.pop()
        members.append(found[pid][1])
        waiting += children.get(pid, [])
    return members


def is_alive(process: Process) -> bool:
    """Return whether it still runs: its number may belong to another one by now."""
    entry = _read(process.pid)
    return entry is not None and entry[1].started == process.started


def kill(processes: Iterable[Process]) -> None:
    """Kill them at once, with SIGKILL."""
    for process in processes:
        if is_alive(process):
            with suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)


def survivors(processes: Iterable[Process], *, timeout_s: float) -> list[Process]:
    """Return which of them are alive still after `timeout_s`; return sooner when none is."""
    deadline = time.monotonic() + timeout_s
    alive = [process for process in processes if is_alive(process)]
    while alive and time.monotonic() < deadline:
        time.sleep(0.1)
        alive = [process for process in alive if is_alive(process)]
    return alive


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU time that a process has taken, its children's apart; None when it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _pids() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def _read(pid: int) -> tuple[int, Process] | None:
    """A process with its parent's number; None when it is gone, or dead and not yet waited for."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
        title = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return None
    # The second field is the command in brackets, which may hold anything; see proc(5).
    fields = status.rpartition(")")[2].split()
    state, parent, started = fields[0], int(fields[1]), int(fields[19])
    return None if state in "ZX" else (parent, Process(pid, started, title.strip()))
