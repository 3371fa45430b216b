"""File lock of the launcher."""

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
    """Exclusive lock of the operating system on the file `path`, until `release` or the end of the process.

    The file is created if it is missing. There are no stale locks: a lock ends with its process. Raises
    `AlreadyRunningError` with host, process and start of the holder if another process has the lock, and
    `OSError` if the file cannot be written.
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
        """Release the lock."""
        self._file.close()

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read())
        except ValueError:  # the holder has locked the file but not yet written it
            return "it has just started"
        return holder_text(holder["process"], holder["host"], holder["start"])

    def _write(self, holder: dict[str, object]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(holder))
        self._file.flush()


def holder_text(process: int | str, host: str, start: str) -> str:
    """Return the holder of a lock as text."""
    return f"process {process} on {host}, started {start}"


def already_running(holder: str, *, lock: str) -> AlreadyRunningError:
    """Return the error for a second launcher."""
    return AlreadyRunningError(f"another launcher runs this search: {holder} (it holds {lock})")
