"""A thread that keeps MLflow equal to the study while the search runs."""

import threading
from collections.abc import Callable, Sequence

from tune_jobs.errors import TrackingError
from tune_jobs.records import TrialRecord
from tune_jobs.tracking import RunMemory, Tracker

INTERVAL_S = 2.0


class TrackingFollower:
    """Calls the tracker every two seconds, so that a slow or absent MLflow server never delays a trial.

    What could not be delivered stays in the study and is sent by a later call, at the latest by `finish`.
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
        """Begin to follow."""
        self._thread.start()

    def finish(self) -> None:
        """Stop following and deliver the rest. Raises `TrackingError` when that is not possible now."""
        self._stop.set()
        self._thread.join()
        if self._failure is not None:
            raise self._failure
        self._sync()

    def _follow(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            try:
                self._sync()
            except TrackingError:
                continue  # away now; asked again in two seconds and at the end
            except BaseException as error:  # a fault of ours must not die with its thread
                self._failure = error
                return

    def _sync(self) -> None:
        self._tracker.sync(self._records(), remember_run=self._remember_run)
