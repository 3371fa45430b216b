"""Folders that a search writes to: whether that works, whether locks hold there, how much is free."""

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
LITTLE_BYTES = 1e9  # some searches take less: worth knowing
NO_LOCKS = "locks do not hold there: two launchers could run one search"
RAY_MOST_FULL = 0.95  # then its nodes store nothing more


class HasFileno(Protocol):
    """An open file."""

    def fileno(self) -> int:
        """Return its descriptor."""


def existing(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that is there."""
    return next(path for path in (folder, *folder.absolute().parents) if path.exists())


def output(options: LaunchOptions, space: "SearchSpace | None") -> Iterator[Finding]:
    """Yield whether runs can be kept where `--output` says: written, locked, with room for a search."""
    place, storage = existing(options.output), options.checkpoint_storage
    yield locks_finding(options.output, probe_locks(place))
    if storage is not None and "://" in storage:
        space = None  # it takes next to nothing here
    elif storage is not None:
        place = existing(Path(storage))
    name, needed = "", None
    if space is not None:
        from tune_jobs.commands.dry_run import most_disk_bytes

        name, needed = space.name, most_disk_bytes(space, options)
    yield disk_finding(place.resolve(), shutil.disk_usage(place).free, needed, name)


def locks_finding(folder: Path, held: bool | str) -> Finding:
    """Return what it means for `--output` what `probe_locks` said of it."""
    if held is True:
        return ok("output", f"{folder.absolute()} can be written and locked")
    return fault("output", f"{folder.absolute()}: {held}", "--output names a folder on a local disk")


def probe_locks(folder: Path) -> Literal[True] | str:
    """Return whether a file can be written in a folder, and a second lock of it is refused, or why not.

    The file is removed again.
    """
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=folder) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
            with Path(probe.name).open("rb") as second:
                return locks_hold(probe, second)
    except OSError as error:
        return f"no file can be written in {folder}: {error.strerror or error}"


def locks_hold(first: HasFileno, second: HasFileno) -> Literal[True] | str:
    """Return whether a second lock of a file is refused while the first is held, or what happens instead."""
    try:
        fcntl.flock(first, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return f"{NO_LOCKS} (its file system: {error.strerror or error})"
    try:
        fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    return NO_LOCKS


def disk_finding(folder: Path, free: float, needed_bytes: int | None, search: str) -> Finding:
    """Return whether what is free holds a search."""
    words = f"{free / GB:,.1f} GB free at {folder}"
    remedy = "free some, or --output and --checkpoint-storage name other places"
    if needed_bytes is None:
        return ok("disk", words) if free >= LITTLE_BYTES else note("disk", words, remedy)
    found = f"{words}; the checkpoints of {search} take up to {needed_bytes / GB:,.2f} GB"
    return ok("disk", found) if free >= needed_bytes else fault("disk", found, remedy)


def temporary() -> Iterator[Finding]:
    """Yield whether a Ray cluster of this machine can keep its own files where it would."""
    folder = ray_folder()
    usage = shutil.disk_usage(existing(folder))
    try:
        with tempfile.NamedTemporaryFile(prefix=".doctor-", dir=existing(folder)) as probe:
            probe.write(bytes(PROBE_BYTES))
            probe.flush()
    except OSError as error:
        found = f"{folder} cannot be written: {error.strerror or error}"
        yield fault("temporary folder", found, "RAY_TMPDIR names another folder for Ray's own files")
        return
    yield temporary_finding(folder, usage.free, usage.total)


def temporary_finding(folder: Path, free: float, total: float) -> Finding:
    """Return whether Ray can work in its folder: with room, at a path that is short enough."""
    words, what = f"{folder} with {free / GB:,.1f} GB free", "temporary folder"
    if not fits_sockets(folder):
        return fault(what, f"{folder}: too long a path for Ray's sockets", "export RAY_TMPDIR=/tmp")
    if free < (1 - RAY_MOST_FULL) * total:
        found = f"{words}, more than {RAY_MOST_FULL:.0%} full: Ray stores nothing more"
        return fault(what, found, "free some, or RAY_TMPDIR names a folder of another disk")
    return ok(what, words)
