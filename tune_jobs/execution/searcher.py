"""What Ray Tune asks during a search, answered by the study: which trial next, and whether one goes on.

Both classes are thin on purpose: Tune creates and stops the actors, every decision and all state is the
study's.
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

BUDGET_STEP_S = 5.0  # a launcher that is killed forgets no more of the time it took

CHECK_STEP_S = 1.0

METRICS = "metrics/"  # how Tune flattens the metrics of a report


class ProgressListener(Protocol):
    """Is told what happens, to show it."""

    def attempt_started(self, attempt: Attempt) -> None:
        """An attempt of a trial begins."""

    def epoch_reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial reported an epoch."""

    def note_received(self, number: int, text: str) -> None:
        """A trial tells what it met."""

    def attempt_ended(self, number: int) -> None:
        """An attempt is over; the study says how."""


@dataclass
class FirstError:
    """The first error that ends the search: raised inside Tune, it would come out in Tune's own words.

    The searcher and the scheduler share it; who runs Tune raises it afterwards.
    """

    error: SearchError | None = None

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep the error that ends the block, if it is the first."""
        try:
            yield
        except SearchError as error:
            self.error = self.error or error

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise the error that was kept once the block ends, however Tune took it."""
        try:
            yield
        except Exception:
            if self.error is None:
                raise
        if self.error is not None:
            raise self.error


class StopAtOnce(Stopper):
    """Tells Tune to stop everything: on a fault, or when the grace time of an interruption is over.

    Tune asks several times a second. Once in `CHECK_STEP_S` that asks the study whether its database is still
    there, so that a launcher which lost it stops also where trials report seldom.
    """

    def __init__(self, study: TrialStudy, *, interruption: Interruption, first_error: FirstError) -> None:
        self._study, self._interruption, self._first_error = study, interruption, first_error
        self._checked_s = time.monotonic()

    def __getstate__(self) -> dict[str, object]:
        """Tune writes its parts to disk to restore them; this one belongs to its process."""
        return {}

    def __call__(self, trial_id: str, result: dict[str, object]) -> bool:
        """Return False: single trials are the scheduler's."""
        return False

    def stop_all(self) -> bool:
        """Return whether everything is to be stopped."""
        if time.monotonic() - self._checked_s >= CHECK_STEP_S:
            with self._first_error.kept():
                self._study.check()
            self._checked_s = time.monotonic()
        return self._first_error.error is not None or self._interruption.overdue


class StudySearcher(Searcher):
    """Hands out the study's trials, as many at a time as there is room for, until it has no more.

    `workers_for_next` is asked with the number of workers of each live attempt on how many workers the next
    one is to run; 0 makes it wait. `await_cluster` returns when the cluster answers: what ends without one
    ends for no reason of its own. `after_end` is called after each attempt that ended by itself. The time
    that passes is counted towards the search's budget, in steps of `BUDGET_STEP_S`.
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
        """Return the config of the next attempt, None to be asked again later, FINISHED at the end."""
        attempt = None
        with self._first_error.kept():
            self._count_time()
            if not (self._interruption.requested or self._first_error.error):
                num_workers = self._workers_for_next([live.num_workers for live in self._attempts.values()])
                if not num_workers and self._is_to_wait:
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
        """The scheduler has seen it already."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the attempt; if it failed, the scheduler has told the study why."""
        attempt = self._attempts.pop(trial_id, None)
        if attempt is None:
            return
        with self._first_error.kept():
            if self._interruption.requested or self._first_error.error:
                self._study.interrupt_attempt(attempt.number, attempt.attempt)
            else:
                self._await_cluster()
                self._study.end_attempt(attempt.number, attempt.attempt)
                self._after_end()
        self._listener.attempt_ended(attempt.number)

    @property
    def _is_to_wait(self) -> bool:
        """Whether a trial waits for room; a search that is over, its budget spent say, waits for none."""
        return bool(self._attempts) or not self._study.finished

    def _count_time(self) -> None:
        passed_s = time.monotonic() - self._counted_s
        if passed_s >= BUDGET_STEP_S:
            self._counted_s += passed_s
            self._study.spend(passed_s)

    def __getstate__(self) -> dict[str, Any]:
        """Tune writes its parts to disk to restore them; ours follow the study and are never restored."""
        return {}

    def save(self, checkpoint_path: str) -> None:
        """Nothing to save: the study is durable by itself."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing to restore."""


class StudyScheduler(FIFOScheduler):
    """Passes every report to the study and stops the trials that it has pruned.

    `await_cluster` is the searcher's.
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
        """As the searcher's."""
        return {}

    def on_trial_error(self, tune_controller: Any, trial: Trial) -> None:
        """End an attempt that could not report its failure: its process is gone, or the fault is in ours."""
        error = error_of(trial) or RayActorError()
        with self._first_error.kept():
            self._end(trial, *failure_of(error, folder=Path(trial.config["search_folder"])))

    def on_trial_result(self, tune_controller: Any, trial: Trial, result: dict[str, Any]) -> str:
        """Return STOP when the trial is pruned, failed, not the current attempt, or the search is to end."""
        with self._first_error.kept():
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
        """Say why an attempt failed; where its storage failed that is no fault of the trial."""
        is_running = self._study.record(int(trial.config["number"])).state == State.RUNNING
        if reason is Reason.STORAGE and is_running:  # a trial that ended has no checkpoints to write any more
            raise StorageError(f"trial {trial.config['number']}: {message}")
        self._await_cluster()
        self._study.fail_attempt(int(trial.config["number"]), int(trial.config["attempt"]), reason, message)
