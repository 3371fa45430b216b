"""Searcher and scheduler of Ray Tune, which query the study: the next trial, and whether a trial continues.

Both classes are thin: Tune creates and stops the actors, the study has all state and makes every decision.
"""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ray.exceptions import RayActorError
from ray.tune import Stopper
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune_jobs.cluster.ray_internals import error_of
from tune_jobs.errors import SearchError, StorageError
from tune_jobs.execution.failure_causes import failure_of
from tune_jobs.study.failures import as_numbers
from tune_jobs.study.records import Reason, State
from tune_jobs.study.trial_study import Attempt, Decision, TrialStudy
from tune_jobs.terminal.interruption import Interruption

BUDGET_STEP_S = 5.0  # at most this much time is not counted if the launcher is killed

CHECK_STEP_S = 1.0

METRICS = "metrics/"  # separator of flattened metrics in Tune


class ProgressListener(Protocol):
    """Receives the events of a search."""

    def attempt_started(self, attempt: Attempt) -> None:
        """Called when an attempt of a trial starts."""

    def epoch_reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Called when a trial reported an epoch."""

    def note_received(self, number: int, text: str) -> None:
        """Called when a trial reported a note."""

    def attempt_ended(self, number: int) -> None:
        """Called when an attempt has ended, after the study has recorded its end."""


@dataclass
class FirstError:
    """First error that ends the search, raised after Tune has returned, because Tune would wrap it.

    The searcher, the scheduler and the stopper share it.
    """

    error: SearchError | None = None

    @contextmanager
    def captured(self) -> Iterator[None]:
        """Record the error of the block if it is the first one, and continue."""
        try:
            yield
        except SearchError as error:
            self.error = self.error or error

    @contextmanager
    def reraised(self) -> Iterator[None]:
        """Raise the recorded error at the end of the block, even if Tune raised another one."""
        try:
            yield
        except Exception:
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error


class StopAtOnce(Stopper):
    """Stopper of Tune: stops all trials after an error, or after the grace period of an interruption.

    Tune calls it several times a second. Every `CHECK_STEP_S` it checks the database of the study, so that
    the search stops if the database is lost, even if trials rarely report.
    """

    def __init__(self, study: TrialStudy, *, interruption: Interruption, first_error: FirstError) -> None:
        self._study, self._interruption, self._first_error = study, interruption, first_error
        self._checked_s = time.monotonic()

    def __getstate__(self) -> dict[str, object]:
        """Return nothing to pickle: Tune saves its components, but this one is never restored."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Return False: the scheduler stops single trials."""
        return False

    def stop_all(self) -> bool:
        """Return whether all trials must stop."""
        if time.monotonic() - self._checked_s >= CHECK_STEP_S:
            with self._first_error.captured():
                self._study.check()
            self._checked_s = time.monotonic()
        return self._first_error.error is not None or self._interruption.overdue


class StudySearcher(Searcher):
    """Suggests the trials of the study, as many at a time as fit, until it has no more.

    `workers_for_next` gets the number of workers of each running attempt and returns that of the next one, 0
    to wait. `await_cluster` returns when the cluster answers, so that an attempt that ended because the
    cluster is lost is not recorded as failed. `after_end` is called after each attempt that was not stopped
    by the launcher. Wall-clock time is counted towards the time budget in steps of `BUDGET_STEP_S`.
    """

    def __init__(
        self,
        study: TrialStudy,
        *,
        workers_for_next: Callable[[Sequence[int]], int],
        interruption: Interruption,
        listener: ProgressListener,
        first_error: FirstError,
        await_cluster: Callable[[], None],
        after_end: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__()
        self._after_end = after_end
        self._study, self._workers_for_next = study, workers_for_next
        self._interruption, self._listener, self._first_error = interruption, listener, first_error
        self._await_cluster = await_cluster
        self._attempts: dict[str, Attempt] = {}
        self._counted_s = time.monotonic()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the config of the next attempt, None to wait, FINISHED at the end."""
        attempt = None
        with self._first_error.captured():
            self._count_time()
            if not (self._interruption.requested or self._first_error.error):
                num_workers = self._workers_for_next([live.num_workers for live in self._attempts.values()])
                if not num_workers and self._must_wait:
                    return None
                attempt = self._study.next_attempt(num_workers)
        if attempt is None:
            return Searcher.FINISHED if not self._study.num_live else None
        self._attempts[trial_id] = attempt
        self._listener.attempt_started(attempt)
        return {
            "number": attempt.number,
            "attempt": attempt.attempt,
            "name": attempt.name,
            "train": attempt.config.model_dump(mode="json"),
            "last_epoch": attempt.last_epoch,
            "num_workers": attempt.num_workers,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Do nothing: the scheduler handles results."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the attempt. If it failed, the scheduler has recorded the reason."""
        attempt = self._attempts.pop(trial_id, None)
        if attempt is None:
            return
        with self._first_error.captured():
            if self._interruption.requested or self._first_error.error:
                self._study.interrupt_attempt(attempt.number, attempt.attempt)
            else:
                self._await_cluster()
                self._study.end_attempt(attempt.number, attempt.attempt)
                self._after_end()
        self._listener.attempt_ended(attempt.number)

    @property
    def _must_wait(self) -> bool:
        """Whether a trial waits for resources; false if the search is over, for example out of time."""
        return bool(self._attempts) or not self._study.finished

    def _count_time(self) -> None:
        passed_s = time.monotonic() - self._counted_s
        if passed_s >= BUDGET_STEP_S:
            self._counted_s += passed_s
            self._study.spend(passed_s)

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to pickle: Tune saves its components, but the study has all state."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Do nothing: the study is durable."""

    def restore(self, checkpoint_path: str) -> None:
        """Do nothing: the study is durable."""


class StudyScheduler(FIFOScheduler):
    """Passes every report to the study, and stops the trials that it prunes.

    `await_cluster`: see `StudySearcher`.
    """

    def __init__(
        self,
        study: TrialStudy,
        *,
        interruption: Interruption,
        listener: ProgressListener,
        first_error: FirstError,
        await_cluster: Callable[[], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._study, self._interruption, self._listener = study, interruption, listener
        self._first_error, self._await_cluster = first_error, await_cluster

    def __getstate__(self) -> dict[str, Any]:
        """Return nothing to pickle, as `StudySearcher`."""
        return {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """Record why an attempt failed that could not report it: its actor died, or had an internal error."""
        error = error_of(trial) or RayActorError()
        with self._first_error.captured():
            self._end(trial, *failure_of(error, folder=Path(trial.config["search_folder"])))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return STOP if the trial is pruned or failed, the attempt is outdated, or the search must end."""
        with self._first_error.captured():
            return self._on_trial_result(trial, result)
        return str(TrialScheduler.STOP)

    def _on_trial_result(self, trial: Trial, result: dict[str, Any]) -> str:
        number, attempt = int(trial.config["number"]), int(trial.config["attempt"])
        if "failure" in result:
            self._end(trial, Reason(result["failure"]), str(result["message"]))
            return str(TrialScheduler.CONTINUE)
        if "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        metrics = {
            key.removeprefix(METRICS): value for key, value in result.items() if key.startswith(METRICS)
        }
        for note in result.get("notes", ()):
            self._listener.note_received(number, note)
        confusion = json.loads(result["confusion"]) if "confusion" in result else None
        decision = self._study.report(number, attempt, int(result["epoch"]), metrics, confusion=confusion)
        self._listener.epoch_reported(number, int(result["epoch"]), as_numbers(metrics))
        if decision is Decision.STOP or self._interruption.requested or self._first_error.error:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)

    def _end(self, trial: Trial, reason: Reason, message: str) -> None:
        """Record why an attempt failed. A storage error ends the search instead of the trial."""
        is_running = self._study.record(int(trial.config["number"])).state == State.RUNNING
        if reason is Reason.STORAGE and is_running:  # a finished trial writes no more checkpoints
            raise StorageError(f"trial {trial.config['number']}: {message}")
        self._await_cluster()
        self._study.fail_attempt(int(trial.config["number"]), int(trial.config["attempt"]), reason, message)
