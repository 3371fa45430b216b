"""What Ray Tune asks during a search, answered by the study: which trial next, and whether one goes on.

Both classes are thin on purpose: Tune creates and stops the actors, every decision and all state is the
study's.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol

from ray.exceptions import RayActorError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from tune_jobs.errors import SearchError
from tune_jobs.failures import as_numbers
from tune_jobs.interruption import Interruption
from tune_jobs.records import Reason
from tune_jobs.study import Decision, HandOut, SearchStudy
from tune_jobs.trial import failure_of

BUDGET_STEP_S = 5.0  # a launcher that is killed forgets no more of the time it took

METRICS = "metrics/"  # how Tune flattens the metrics of a report


class Watcher(Protocol):
    """Is told what happens, to show it."""

    def handed_out(self, hand_out: HandOut) -> None:
        """An attempt of a trial begins."""

    def reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial reported an epoch."""

    def ended(self, number: int) -> None:
        """An attempt is over; the study says how."""


@dataclass
class Fault:
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


class StudySearcher(Searcher):
    """Hands out the study's trials, at most `max_concurrent` at a time, until it has no more.

    The time that passes is counted towards the search's budget, in steps of `BUDGET_STEP_S`.
    """

    def __init__(
        self,
        study: SearchStudy,
        *,
        max_concurrent: int,
        interruption: Interruption,
        watcher: Watcher,
        fault: Fault,
    ) -> None:
        super().__init__()
        self._study, self._max_concurrent = study, max_concurrent
        self._interruption, self._watcher, self._fault = interruption, watcher, fault
        self._hand_outs: dict[str, HandOut] = {}
        self._counted_s = time.monotonic()

    def suggest(self, trial_id: str) -> dict[str, Any] | str | None:  # type: ignore[override]
        """Return the config of the next attempt, None to be asked again later, FINISHED at the end."""
        hand_out = None
        with self._fault.kept():
            self._count_time()
            if self._study.num_live >= self._max_concurrent:
                return None
            if not (self._interruption.requested or self._fault.error):
                hand_out = self._study.hand_out()
        if hand_out is None:
            return Searcher.FINISHED if not self._study.num_live else None
        self._hand_outs[trial_id] = hand_out
        self._watcher.handed_out(hand_out)
        return {
            "number": hand_out.number,
            "attempt": hand_out.attempt,
            "train": hand_out.config.model_dump(mode="json"),
            "last_epoch": hand_out.last_epoch,
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """The scheduler has seen it already."""

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """End the attempt; if it failed, the scheduler has told the study why."""
        hand_out = self._hand_outs.pop(trial_id, None)
        if hand_out is None:
            return
        with self._fault.kept():
            if self._interruption.requested or self._fault.error:
                self._study.interrupt_attempt(hand_out.number, hand_out.attempt)
            else:
                self._study.end_attempt(hand_out.number, hand_out.attempt)
        self._watcher.ended(hand_out.number)

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
    """Passes every report to the study and stops the trials that it has pruned."""

    def __init__(
        self, study: SearchStudy, *, interruption: Interruption, watcher: Watcher, fault: Fault
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._study, self._interruption, self._watcher = study, interruption, watcher
        self._fault = fault

    def __getstate__(self) -> dict[str, Any]:
        """As the searcher's."""
        return {}

    def on_trial_error(self, tune_controller: TuneController, trial: Trial) -> None:
        """End an attempt that could not report its failure: its process is gone, or the fault is in ours."""
        number, attempt = int(trial.config["number"]), int(trial.config["attempt"])
        error = trial.get_pickled_error() or RayActorError()
        with self._fault.kept():
            self._study.end_attempt(number, attempt, *failure_of(error))

    def on_trial_result(self, tune_controller: TuneController, trial: Trial, result: dict[str, Any]) -> str:
        """Return STOP when the trial is pruned, failed, not the current attempt, or the search is to end."""
        with self._fault.kept():
            return self._on_trial_result(trial, result)
        return str(TrialScheduler.STOP)

    def _on_trial_result(self, trial: Trial, result: dict[str, Any]) -> str:
        number, attempt = int(trial.config["number"]), int(trial.config["attempt"])
        if "failure" in result:
            self._study.end_attempt(number, attempt, Reason(result["failure"]), str(result["message"]))
            return str(TrialScheduler.CONTINUE)
        if "epoch" not in result:
            return str(TrialScheduler.CONTINUE)
        metrics = {
            key.removeprefix(METRICS): value for key, value in result.items() if key.startswith(METRICS)
        }
        decision = self._study.report(number, attempt, int(result["epoch"]), metrics)
        self._watcher.reported(number, int(result["epoch"]), as_numbers(metrics))
        if decision is Decision.STOP or self._interruption.requested or self._fault.error:
            return str(TrialScheduler.STOP)
        return str(TrialScheduler.CONTINUE)
