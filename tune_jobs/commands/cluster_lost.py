"""Exit when the Ray cluster is lost: within a few seconds, whatever the main thread waits for."""

import os
import threading
from collections.abc import Callable
from contextlib import suppress

from tune_jobs.errors import ClusterLostError
from tune_jobs.options import LaunchOptions, closing_line
from tune_jobs.terminal.streams import Terminal

CLOSING_TIMEOUT_S = 5.0


class ClusterLostExit:
    """Ends this process from any thread, with one line that gives the cause and the command that resumes.

    The main thread may be inside a call of Ray that never returns, so it is not waited for: the study is
    complete between any two writes, and the operating system frees the locks. If this machine is the cluster,
    its processes are killed too.
    """

    def __init__(self, options: LaunchOptions, terminal: Terminal | None = None) -> None:
        self._options, self._terminal = options, terminal or Terminal()
        self._close: Callable[[], None] | None = None

    def close_first(self, close: Callable[[], None]) -> None:
        """Call `close` before the exit; its errors are ignored, and it may take a few seconds at most."""
        self._close = close

    def abort(self, error: ClusterLostError) -> None:
        """End this process with the exit code of the error; does not return."""
        try:
            closing = threading.Thread(target=self._run_close, name="closing", daemon=True)
            closing.start()
            closing.join(CLOSING_TIMEOUT_S)
            if self._options.address is None:
                _kill_descendants()
            line = closing_line(str(error), self._options, resumable=error.resumable)
            with suppress(OSError, ValueError, AttributeError):  # stdout was closed, or never existed
                self._terminal.abandon_panel()
                self._terminal.out.flush()
            self._terminal.warn(line)
        finally:
            os._exit(error.exit_code)

    def _run_close(self) -> None:
        if self._close is not None:
            with suppress(Exception):  # the next launch delivers what is missing
                self._close()


def _kill_descendants() -> None:
    """Kill the processes that this one started: Ray's own would first wait for their head."""
    import psutil  # Ray's own copy, which can be imported once Ray is

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
