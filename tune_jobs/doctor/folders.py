"""Folders that a search writes to: permissions, file locks and free space."""

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

from tune_jobs.doctor.finding import Finding, fault, note, ok
from tune_jobs.doctor.machine import GB, fits_sockets, ray_folder
from tune_jobs.options import LaunchOptions

if TYPE_CHECKING:
    from tune_jobs.space import SearchSpace

PROBE_BYTES = 65_536
MIN_FREE_BYTES = 1e9  # some searches need less, so this is a note
NO_LOCKS = "file locks do not work there, so two launchers could run the same search"
MAX_DISK_USAGE = 0.95  # Ray stores no objects on a disk that is fuller


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Return its file descriptor."""


def nearest_existing(folder: Path) -> Path:
    """Return the folder or its nearest existing parent."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def output(options: LaunchOptions, space: "SearchSpace | None") -> Iterator[Finding]:
    """Yield the findings on the folder `--output`: writing, locks, free space."""
    place, storage = nearest_existing(options.output), options.checkpoint_storage
    yield locks_finding(options.output, probe_locks(place))
    if storage is not None and "://" in storage:
        space = None  # checkpoints take no space here
    elif storage is not None:
        place = nearest_existing(Path(storage))
    name, needed = "", None
    if space is not None:
        from tune_jobs.commands.dry_run import most_disk_bytes

        name, needed = space.name, most_disk_bytes(space, options)
    yield disk_finding(place.resolve(), shutil.disk_usage(place).free, needed, name)


def locks_finding(folder: Path, works: bool | str) -> Finding:
    """Return the finding on `--output` from the result of `probe_locks`."""
    if works is True:
        return ok("output", f"{folder.absolute()} can be written and locked")
    return fault("output", f"{folder.absolute()}: {works}", "choose a folder on a local disk with --output")


def probe_locks(folder: Path) -> Literal[True] | str:
    """Return whether a file can be written and locked in a folder, or the reason why not.

    The file is removed.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            with Path(probe.name).open("rb") as second:
                return check_locks(probe, second)
    except OSError as error:
        return f"cannot write a file in {folder}: {error.strerror or error}"


def check_locks(first: HasFileno, second: HasFileno) -> Literal[True] | str:
    """Return whether a second lock of a file is refused while the first is held, or the problem."""
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"{NO_LOCKS} ({error.strerror or error})"
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return NO_LOCKS


def disk_finding(folder: Path, free: float, needed_bytes: int | None, search: str) -> Finding:
    """Return the finding on the free space for a search."""
    words = f"{free / GB:,.1f} GB free at {folder}"
    remedy = "free disk space, or choose another disk with --output or --checkpoint-storage"
    if needed_bytes is None:
        return ok("disk", words) if free >= MIN_FREE_BYTES else note("disk", words, remedy)
    message = f"{words}; the checkpoints of {search} need up to {needed_bytes / GB:,.2f} GB"
    return ok("disk", message) if free >= needed_bytes else fault("disk", message, remedy)


def temporary() -> Iterator[Finding]:
    """Yield the findings on the temporary folder of a local Ray cluster."""
    folder = ray_folder()
    usage = shutil.disk_usage(nearest_existing(folder))
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=nearest_existing(folder)) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        message = f"{folder} cannot be written: {error.strerror or error}"
        yield fault("temporary folder", message, "set RAY_TMPDIR to a writable folder")
        return
    yield temporary_finding(folder, usage.free, usage.total)


def temporary_finding(folder: Path, free: float, total: float) -> Finding:
    """Return the finding on the temporary folder of Ray: free space, and the length of its path."""
    words, subject = f"{folder} with {free / GB:,.1f} GB free", "temporary folder"
    if not fits_sockets(folder):
        return fault(subject, f"{folder}: the path is too long for Ray's sockets", "export RAY_TMPDIR=/tmp")
    if free < (1 - MAX_DISK_USAGE) * total:
        message = f"{words}, more than {MAX_DISK_USAGE:.0%} full: Ray cannot store objects"
        return fault(subject, message, "free disk space, or set RAY_TMPDIR to a folder on another disk")
    return ok(subject, words)
