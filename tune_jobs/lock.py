"""One launcher at a time: the operating system's lock on a file of the search."""

import fcntl
import json
import os
import socket
import time
from pathlib import Path
from typing import TextIO

from tune_jobs.errors import AlreadyRunningError


class LauncherLock:
    """Holds `launcher.lock` in the folder of a search until `release` or the end of the process.

    The lock ends with its process, however that ends, so there is no stale one to clear. Raises
    `AlreadyRunningError`, naming host, process and start of the holder, when another process has it.
    """

    def __init__(self, folder: Path) -> None:
        self._file: TextIO = (folder / "launcher.lock").open("a+")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            holder = self._holder()
            self._file.close()
            raise AlreadyRunningError(f"{folder}: another launcher runs this search ({holder})") from None
        self._write(
            {
                "host": socket.gethostname(),
                "process": os.getpid(),
                "start": time.strftime("%Y-%m-%d %H:%M:%S"),
            }
        )

    def release(self) -> None:
        """Let the next launcher in."""
        self._file.close()

    def _holder(self) -> str:
        self._file.seek(0)
        try:
            holder = json.loads(self._file.read())
        except ValueError:  # read between the holder's lock and its note
            return "it has just started"
        return f"process {holder['process']} on {holder['host']}, started {holder['start']}"

    def _write(self, holder: dict[str, object]) -> None:
        self._file.seek(0)
        self._file.truncate()
        self._file.write(json.dumps(holder))
        self._file.flush()
