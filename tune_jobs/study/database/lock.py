"""One launcher at a time: the operating system's lock on a file."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import TextIO

from tune_jobs.errors import AlreadyRunningError

TIME_FORMAT = "%Y-%m-%d %H:%M:%S"


class LauncherLock:
    """Holds the file at `path`, made if it is missing, until `release` or the end of the process.

    The lock ends with its process, however that ends, so there is no stale one to clear. Raises
    `AlreadyRunningError`, naming host, process and start of the holder, when another process has it, and
    `OSError` where the file cannot be written.
    """

    def __init__(self, path: Path) -> None:
        self._file: TextIO = path.open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder()
            self._file.close()
            raise already_running(holder, lock=str(path)) from None
        self._write(
            {"host": socket.gethostname(), "process": os.getpid(), "start": time.strftime(TIME_FORMAT)}
        )

    def release(self) -> None:
        """Let the next launcher in."""
        self._file.close()

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            note = json.loads(self._file.read())
        except ValueError:  # read between the holder's lock and its note
            return "it has just started"
        return in_words(note["process"], note["host"], note["start"])

    def _write(self, note: dict[str, object]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(note))
        self._file.flush()


def in_words(process: int | str, host: str, start: str) -> str:
    """Return who holds a lock, for a message."""
    return f"process {process} on {host}, started {start}"


def already_running(holder: str, *, lock: str) -> AlreadyRunningError:
    """Return the error of a second launcher."""
    return AlreadyRunningError(f"another launcher runs this search: {holder} (it holds {lock})")
