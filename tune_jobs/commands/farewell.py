"""The end of a launch whose cluster is lost: in a few seconds, whatever the main thread waits for."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from tune_jobs.errors import ClusterLostError
from tune_jobs.options import LaunchOptions, closing_line
from tune_jobs.terminal.streams import Terminal

CLOSING_TIMEOUT_S = 5.0


class Farewell:
    """Closes what it was told to close, says why and how to go on, and ends this process.

    The main thread may be inside a call of Ray that never returns, so nobody waits for it: the study is
    whole between any two writes, and the operating system frees the locks. Where this machine is the cluster
    its processes end too.
    """

    def __init__(self, options: LaunchOptions, terminal: Terminal | None = None) -> None:
        self._options, self._terminal = options, terminal or Terminal()
        self._close: Callable[[], None] | None = None

    def first(self, close: Callable[[], None]) -> None:
        """Do this at the end, as far as a few seconds and its own success allow."""
        self._close = close

    def leave(self, error: ClusterLostError) -> None:
        """End this process with the exit code of the error; does not return."""
        try:
            closing = threading.Thread(target=self._closed, name="closing", daemon=True)
            closing.start()
            closing.join(CLOSING_TIMEOUT_S)
            if self._options.address is None:
                _end_descendants()
            line = closing_line(str(error), self._options, resumable=error.resumable)
            with suppress(OSError, ValueError, AttributeError):  # a stdout that is gone, or never was there
                self._terminal.abandon_panel()
                self._terminal.out.flush()
            self._terminal.warn(line)
        finally:
            os._exit(error.exit_code)

    def _closed(self) -> None:
        if self._close is not None:
            with suppress(Exception):  # nobody is left to mend it; the next launch delivers what is missing
                self._close()


def _end_descendants() -> None:
    """Kill whom this process started, at once: Ray's own processes would first wait for their head."""
    import psutil  # Ray's own copy, which is there once Ray is imported

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
