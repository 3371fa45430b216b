"""Ctrl-C and SIGTERM: the first lets the running epochs end, the second leaves at once."""

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from tune_jobs.terminal.streams import Terminal

GRACE_S = 60.0  # an interrupted trial may use this long to end its epoch
EXIT_CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


class Interruption:
    """Whether the search was asked to end, by which signal, and until when its trials may reach an epoch."""

    def __init__(self, grace_s: float, terminal: Terminal | None = None) -> None:
        self._grace_s, self._terminal = grace_s, terminal or Terminal()
        self._deadline: float | None = None
        self.exit_code = 0

    @property
    def requested(self) -> bool:
        """Whether no trial may be handed out any more."""
        return self._deadline is not None

    @property
    def overdue(self) -> bool:
        """Whether what still runs is to be stopped now."""
        return self._deadline is not None and time.monotonic() > self._deadline

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take both signals over for the time of the block; the second one raises KeyboardInterrupt."""
        before = {number: signal.getsignal(number) for number in EXIT_CODES}
        self.take_over()
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def take_over(self) -> None:
        """Take both signals over, once more after a library did: ray.init has its own idea of SIGTERM."""
        assert threading.current_thread() is threading.main_thread()
        for number in EXIT_CODES:
            signal.signal(number, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.exit_code = EXIT_CODES[signal.Signals(number)]
        self._deadline = time.monotonic() + self._grace_s
        self._terminal.warn(
            f"stopping: running trials may end their epoch, for {self._grace_s:.0f} s (again: leave at once)"
        )
