"""This machine: CPUs, memory, shared memory, open files."""

import os
import re
import resource
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from tune_jobs.doctor.finding import Finding, note, ok

if TYPE_CHECKING:
    from tune_jobs.space import SearchSpace

GB = 1e9
MEMORY = Path("/proc/meminfo")
MEMORY_LIMIT, MEMORY_USED = Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory.current")
SHARED_MEMORY = Path("/dev/shm")

WORKER_BYTES = 1e9  # torch alone takes 0.7 GB
# Ray's object store: its share of the memory, and from which size on it gets by with what is there.
STORE_SHARE, LARGE_STORE_BYTES = 0.3, 10e9
FEWEST_OPEN_FILES = 4096  # below it Ray warns
# Linux ends the path of a socket there; Ray puts `ray/session_<date>_<process>/sockets/plasma_store` behind.
LONGEST_SOCKET, SOCKET_TAIL = 107, 68


def cpus() -> Iterator[Finding]:
    """Yield a line for what this machine gives to workers."""
    from tune_jobs.cluster.resources import machine_resources, shown_resources

    resources = machine_resources()
    present = os.cpu_count() or 1
    fewer = "" if resources["CPU"] == present else f" of {present} (affinity or quota of this process)"
    gpus = "" if resources["GPU"] else ", no GPU"
    yield ok("CPUs and GPUs", f"{shown_resources(resources)}{fewer}{gpus}")


def memory(space: "SearchSpace | None") -> Iterator[Finding]:
    """Yield what memory is free, for the workers of a space, and whether Ray finds enough of it shared."""
    if not MEMORY.is_file():
        return
    total, available = memory_bytes(MEMORY.read_text(), limit=_read(MEMORY_LIMIT), used=_read(MEMORY_USED))
    yield memory_finding(total=total, available=available, workers=_workers(space))
    if SHARED_MEMORY.is_dir():
        found = os.statvfs(SHARED_MEMORY)
        yield shared_memory_finding(found.f_bavail * found.f_frsize, memory=total)


def _workers(space: "SearchSpace | None") -> int:
    """How many workers run at once here, 1 where nobody knows."""
    if space is None:
        return 1
    from tune_jobs.cluster.resources import machine_resources, workers_held

    held, limit = workers_held([machine_resources()], space.trial), space.search.max_concurrent
    return held if limit == "auto" else min(held, limit * space.trial.max_workers)


def memory_bytes(meminfo: str, *, limit: str, used: str) -> tuple[int, int]:
    """Return total and available memory: the system's, or less where a container has a limit (cgroup v2)."""
    total, available = (
        1024 * int(re.search(rf"^{name}: +(\d+) kB", meminfo, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("MemTotal", "MemAvailable")
    )
    if not limit.strip().isdecimal():
        return total, available
    rest = int(limit) - int(used) if used.strip().isdecimal() else int(limit)
    return min(total, int(limit)), min(available, max(0, rest))


def memory_finding(*, total: float, available: float, workers: int) -> Finding:
    """Return whether the available memory holds so many workers, at least one."""
    words = f"{available / GB:.1f} of {total / GB:.1f} GB free"
    needed = max(1, workers) * WORKER_BYTES
    if available >= needed:
        return ok("memory", words)
    many = f"{workers} workers at once take" if workers > 1 else "a worker takes"
    found = f"{words}; {many} about {needed / GB:.0f} GB"
    return note("memory", found, "free some, or set search.max_concurrent")


def shared_memory_finding(free: float, *, memory: float) -> Finding:
    """Return whether Ray's objects fit into /dev/shm: beyond it they lie on a disk, which is slow."""
    store = min(STORE_SHARE * memory, max(LARGE_STORE_BYTES, free))
    words = f"/dev/shm has {free / GB:.2f} GB free"
    if free >= store:
        return ok("shared memory", words)
    found = f"{words}, Ray would take {store / GB:.1f} GB and uses the disk instead"
    remedy = f"docker run --shm-size={store * 1.1 / GB:.1f}g, or mount a larger one"
    return note("shared memory", found, remedy)


def open_files() -> Iterator[Finding]:
    """Yield how many files a process may have open: Ray goes up to the hard limit by itself."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    yield open_files_finding(None if hard == resource.RLIM_INFINITY else hard)


def open_files_finding(most: int | None) -> Finding:
    """Return whether so many open files are enough for Ray."""
    words = "no limit" if most is None else f"up to {most:,} in a process"
    if most is None or most >= FEWEST_OPEN_FILES:
        return ok("open files", words)
    return note(
        "open files", words, f"ulimit -Hn {2 * FEWEST_OPEN_FILES}, or the container's --ulimit nofile"
    )


def ray_folder() -> Path:
    """Return the folder in which a cluster of this machine keeps its own files."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())


def fits_sockets(folder: Path) -> bool:
    """Return whether Ray's sockets can lie below a folder: their paths may not be long."""
    return len(os.fsencode(folder)) + SOCKET_TAIL <= LONGEST_SOCKET


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
