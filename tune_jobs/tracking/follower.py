"""Thread that synchronises MLflow with the study while the search runs."""

import threading
import time
from collections.abc import Callable, Sequence

from tune_jobs.errors import TrackingError
from tune_jobs.study.records import TrialRecord
from tune_jobs.tracking.tracker import RunMemory, Tracker

INTERVAL_S = 2.0
# So that metrics do not wait for the files of many trials, and files are not rendered every two seconds for a
# failing store.
FILES_PER_CALL = 2
FILES_PAUSE_S = 30.0


class TrackingFollower:
    """Calls the tracker every two seconds, so that a slow or unavailable MLflow server never delays a trial.

    Records that could not be sent are sent by a later call, at the latest by `finish`.
    """

    def __init__(
        self,
        tracker: Tracker,
        *,
        records: Callable[[], Sequence[TrialRecord]],
        remember_run: RunMemory,
    ) -> None:
        self._tracker, self._records, self._remember_run = tracker, records, remember_run
        self._stop = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._follow, name="tracking", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def finish(self, *, with_files: bool = True) -> None:
        """Stop the thread and send the rest. Without files this is fast.

        Raises `TrackingError` if MLflow is unavailable.
        """
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._sync(None if with_files else 0)

    def _follow(self) -> None:
        files_from_s = time.monotonic()
        while not self._stop.wait(INTERVAL_S):
            try:
                self._sync(FILES_PER_CALL if time.monotonic() >= files_from_s else 0)
            except TrackingError:
                files_from_s = time.monotonic() + FILES_PAUSE_S
                continue  # unavailable; retried in two seconds and at the end
            except BaseException as error:  # an internal error must not be lost with its thread
                self._failure = error
                return

    def _sync(self, max_files: int | None) -> None:
        self._tracker.sync(self._records(), remember_run=self._remember_run, max_files=max_files)
