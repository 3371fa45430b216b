"""A training that stands still is ended, and says where: a rank that waits in vain, a loop without an end."""

import logging
import sys
import threading
import time
import traceback
from collections.abc import Callable

from selfcon.errors import SelfConError

log = logging.getLogger(__name__)

# Importing torch and reading the data take long on a busy machine, however quick the steps are.
START_ALLOWANCE_S = 300.0
SECOND_LOOK_S = 1.0  # a process that was frozen, with its machine say, finds its time over when it goes on


class HungError(SelfConError):
    """A training has made no progress for too long; the message says where it was last, in one line."""


class Watchdog:
    """Runs the training of the worker `name`; raises `HungError` when `beat` was not called for `timeout_s`.

    The first beat, which ends the start, may take `START_ALLOWANCE_S` where that is more.

    What does not let go of Python's interpreter at all, or is a process that the system has stopped, cannot
    be seen from inside: Ray Train's own check of its workers tells that.
    """

    def __init__(self, *, timeout_s: float, name: str) -> None:
        self._timeout_s, self._name = timeout_s, name
        self._ended = threading.Event()
        self._error: BaseException | None = None
        self._last, self._allowed_s = (time.monotonic(), "its start"), timeout_s

    def beat(self, place: str) -> None:
        """Take note that the training has just reached a place."""
        self._last, self._allowed_s = (time.monotonic(), place), self._timeout_s

    def run(self, training: Callable[[], None]) -> None:
        """Return when `training` has returned, raise what it raised; it has a thread of its own.

        A thread cannot be ended from outside: after a `HungError` the process is to be given up. The stacks
        of all its threads are in its log then.
        """
        self._last = (time.monotonic(), "its start")
        self._allowed_s = max(self._timeout_s, START_ALLOWANCE_S)
        thread = threading.Thread(target=self._run, args=(training,), name="training", daemon=True)
        thread.start()
        # Looks once in `timeout_s` at least: the start may be over long before its own time is.
        while not self._ended.wait(min(self._left_s(), self._timeout_s)):
            if self._left_s() <= 0 and not self._ended.wait(SECOND_LOOK_S) and self._left_s() <= 0:
                self._give_up()
        if self._error is not None:
            raise self._error

    def _run(self, training: Callable[[], None]) -> None:
        try:
            training()
        except BaseException as error:  # whatever it is, it is raised again where Ray Train waits for it
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
    """Return where each thread of this process is, the training's first."""
    frames = sys._current_frames()
    threads = sorted(threading.enumerate(), key=lambda thread: thread.name != "training")
    return "\n".join(
        f"thread {thread.name}:\n{''.join(traceback.format_stack(frames[thread.ident]))}"
        for thread in threads
        if thread.ident in frames
    )
