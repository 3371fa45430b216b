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
# Ray's object store: its share of the memory, and the size above which Ray accepts a smaller /dev/shm.
STORE_SHARE, LARGE_STORE_BYTES = 0.3, 10e9
MIN_OPEN_FILES = 4096  # Ray warns below it
# Maximum length of the path of a socket in Linux; Ray appends
# `ray/session_<date>_<process>/sockets/plasma_store`.
MAX_SOCKET_PATH, SOCKET_SUFFIX = 107, 68


def cpus() -> Iterator[Finding]:
    """Yield the finding on the CPUs for workers."""
    from tune_jobs.cluster.resources import machine_resources, shown_resources

    resources = machine_resources()
    present = os.cpu_count() or 1
    fewer = "" if resources["CPU"] == present else f" of {present} (limited by CPU affinity or quota)"
    gpus = "" if resources["GPU"] else ", no GPU"
    yield ok("CPUs and GPUs", f"{shown_resources(resources)}{fewer}{gpus}")


def memory(space: "SearchSpace | None") -> Iterator[Finding]:
    """Yield the findings on free memory for the workers of a space, and on shared memory for Ray."""
    if not MEMORY.is_file():
        return
    total, available = memory_bytes(MEMORY.read_text(), limit=_read(MEMORY_LIMIT), used=_read(MEMORY_USED))
    yield memory_finding(total=total, available=available, workers=_workers(space))
    if SHARED_MEMORY.is_dir():
        found = os.statvfs(SHARED_MEMORY)
        yield shared_memory_finding(found.f_bavail * found.f_frsize, memory=total)


def _workers(space: "SearchSpace | None") -> int:
    """Number of concurrent workers on this machine, 1 if unknown."""
    if space is None:
        return 1
    from tune_jobs.cluster.concurrency import workers_held
    from tune_jobs.cluster.resources import machine_resources

    held, limit = workers_held([machine_resources()], space.trial), space.search.max_concurrent
    return held if limit == "auto" else min(held, limit * space.trial.max_workers)


def memory_bytes(meminfo: str, *, limit: str, used: str) -> tuple[int, int]:
    """Return total and available memory of the system, or the limit of the container (cgroup v2) if it is
    smaller."""
    total, available = (
        1024 * int(re.search(rf"^{name}: +(\d+) kB", meminfo, re.MULTILINE)[1])  # type: ignore[index]
        for name in ("MemTotal", "MemAvailable")
    )
    if not limit.strip().isdecimal():
        return total, available
    rest = int(limit) - int(used) if used.strip().isdecimal() else int(limit)
    return min(total, int(limit)), min(available, max(0, rest))


def memory_finding(*, total: float, available: float, workers: int) -> Finding:
    """Return the finding on the memory for this number of workers."""
    words = f"{available / GB:.1f} of {total / GB:.1f} GB free"
    needed = max(1, workers) * WORKER_BYTES
    if available >= needed:
        return ok("memory", words)
    need = f"{workers} concurrent workers need" if workers > 1 else "a worker needs"
    message = f"{words}; {need} about {needed / GB:.0f} GB"
    return note("memory", message, "free memory, or set search.max_concurrent")


def shared_memory_finding(free: float, *, memory: float) -> Finding:
    """Return the finding on /dev/shm; Ray stores objects that do not fit on disk, which is slow."""
    store = min(STORE_SHARE * memory, max(LARGE_STORE_BYTES, free))
    words = f"/dev/shm has {free / GB:.2f} GB free"
    if free >= store:
        return ok("shared memory", words)
    message = f"{words}, Ray needs {store / GB:.1f} GB and will use the disk instead"
    remedy = f"docker run --shm-size={store * 1.1 / GB:.1f}g, or mount a larger /dev/shm"
    return note("shared memory", message, remedy)


def open_files() -> Iterator[Finding]:
    """Yield the finding on the limit of open files; Ray raises it to the hard limit."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    yield open_files_finding(None if hard == resource.RLIM_INFINITY else hard)


def open_files_finding(limit: int | None) -> Finding:
    """Return the finding on the limit of open files; None is no limit."""
    words = "no limit" if limit is None else f"at most {limit:,} per process"
    if limit is None or limit >= MIN_OPEN_FILES:
        return ok("open files", words)
    return note("open files", words, f"ulimit -Hn {2 * MIN_OPEN_FILES}, or docker run --ulimit nofile")


def ray_folder() -> Path:
    """Return the temporary folder of a local Ray cluster."""
    return Path(os.environ.get("RAY_TMPDIR") or tempfile.gettempdir())


def fits_sockets(folder: Path) -> bool:
    """Return whether the paths of Ray's sockets below a folder are short enough."""
    return len(os.fsencode(folder)) + SOCKET_SUFFIX <= MAX_SOCKET_PATH


def _read(path: Path) -> str:
    return path.read_text() if path.is_file() else ""
