"""Watchdog: ends a training that hangs, and reports where, for example in a collective or an endless loop."""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from selfcon.errors import SelfConError

log = logging.getLogger(__name__)

# Importing torch and reading the data can take long on a busy machine.
START_ALLOWANCE_S = 300.0
SECOND_CHECK_S = 1.0  # a process that was frozen is beyond its limit when it resumes


class HungError(SelfConError):
    """A training made no progress for too long; the message has its last location."""


class Watchdog:
    """Runs the training of the worker `name`; raises `HungError` if `beat` is not called for `timeout_s`.

    Until the first beat the limit is at least `START_ALLOWANCE_S`. Code that holds the interpreter lock, and
    a process stopped by the system, are detected by the health check of Ray Train instead.
    """

    def __init__(self, *, timeout_s: float, name: str) -> None:
        self._timeout_s, self._name = timeout_s, name
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._last, self._allowed_s = (time.monotonic(), "its start"), timeout_s

    def beat(self, place: str) -> None:
        """Record progress of the training at a location."""
        self._last, self._allowed_s = (time.monotonic(), place), self._timeout_s

    def run(self, training: Callable[[], None]) -> None:
        """Run `training` in a separate thread; raise what it raises.

        A thread cannot be killed: after a `HungError` the process must exit. The stacks of all its threads
        are then in its log.
        """
        self._last = (time.monotonic(), "its start")
        self._allowed_s = max(self._timeout_s, START_ALLOWANCE_S)
        thread = threading.Thread(target=self._run, args=(training,), name="training", daemon=True)
        thread.start()
        # Checks every `timeout_s` at the latest, because the start may take less time than its allowance.
        while not self._ended.wait(min(self._left_s(), self._timeout_s)):
            if self._left_s() <= 0 and not self._ended.wait(SECOND_CHECK_S) and self._left_s() <= 0:
                self._give_up()
        if self._error is not None:
            raise self._error

    def _run(self, training: Callable[[], None]) -> None:
        try:
            training()
        except BaseException as error:  # raised again in the main thread, for Ray Train
            self._error = error
        finally:
            self._ended.set()

    def _left_s(self) -> float:
        return max(0.0, self._last[0] + self._allowed_s - time.monotonic())

    def _give_up(self) -> None:
        message = f"no progress for {self._allowed_s:g} s, last in {self._last[1]}, {self._name}"
        log.error("%s\n%s", message, stacks())
        raise HungError(message)


def stacks() -> str:
    """Return the stacks of all threads of this process, that of the training first."""
    frames = sys._current_frames()
    threads = sorted(threading.enumerate(), key=lambda thread: thread.name != "training")
    return "\n".join(
        f"thread {thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in threads
        if thread.ident in frames
    )
