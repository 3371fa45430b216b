"""Exit when the Ray cluster is lost: within a few seconds, even if the main thread is blocked."""

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

    The main thread may be inside a call of Ray that never returns, so this does not wait for it: the study is
    complete between any two writes, and the operating system releases the locks. If this machine is the
    cluster, its processes are killed too.
    """

    def __init__(self, options: LaunchOptions, terminal: Terminal | None = None) -> None:
        self._options, self._terminal = options, terminal or Terminal()
        self._close: Callable[[], None] | None = None

    def close_first(self, close: Callable[[], None]) -> None:
        """Call `close` before the exit, for a few seconds at most; its errors are ignored."""
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
            with suppress(Exception):  # the next launch sends the missing records
                self._close()


def _kill_descendants() -> None:
    """Kill the processes that this one started: Ray's processes would first wait for their head node."""
    import psutil  # Ray's own copy, importable after Ray

    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            process.kill()
