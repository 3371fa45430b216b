"""Ctrl-C and SIGTERM: the first lets running epochs finish, the second exits at once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tune_jobs.terminal.streams import Terminal

GRACE_S = 60.0  # for interrupted trials to finish their epoch
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interruption:
    """Whether a signal asked the search to stop, which one, and the deadline for running epochs to finish."""

    def __init__(self, grace_s: float, terminal: Terminal | None = None) -> None:
        self._grace_s, self._terminal = grace_s, terminal or Terminal()
        self._deadline: float | None = None
        self.exit_code = 0

    @property
    def requested(self) -> bool:
        """Whether the search was asked to stop, so that no further trial is scheduled."""
        return self._deadline is not None

    @property
    def overdue(self) -> bool:
        """Whether the grace period is over, so that running trials are stopped now."""
        return self._deadline is not None and time.monotonic() > self._deadline

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Handle both signals inside the block; the second signal raises KeyboardInterrupt."""
        before = {number: signal.getsignal(number) for number in EXIT_CODES}
        self.take_over()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def take_over(self) -> None:
        """Install the handlers of both signals; again after `ray.init`, which replaces that of SIGTERM."""
        assert threading.current_thread() is threading.main_thread()
        for number in EXIT_CODES:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        self._deadline = time.monotonic() + self._grace_s
        self._terminal.warn(
            f"stopping: running trials have {self._grace_s:.0f} s to finish their epoch (again: exit at once)"
        )
