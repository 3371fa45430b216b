"""Run the trials of a study with Ray Tune, each attempt as a run of Ray Train."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ray import tune

from tune_jobs.checkpoints.retention import Retention
from tune_jobs.cluster.capacity import Capacity
from tune_jobs.cluster.connection import Connection
from tune_jobs.cluster.nodes import present_nodes, trial_selector
from tune_jobs.cluster.ray_internals import keep_keys_out_of_trials
from tune_jobs.execution.searcher import FirstError, StopAtOnce, StudyScheduler, StudySearcher
from tune_jobs.execution.trial import WorkerGroup, attempt_name, run_trial, tune_config
from tune_jobs.space import SearchSpace
from tune_jobs.study.trial_study import TrialStudy
from tune_jobs.terminal.event_log import EventLog
from tune_jobs.terminal.interruption import Interruption
from tune_jobs.terminal.live_panel import LivePanel


def run_trials(
    space: SearchSpace,
    study: TrialStudy,
    *,
    folder: Path,
    checkpoints: str,
    retention: Retention,
    connection: Connection,
    interruption: Interruption,
    log: EventLog | LivePanel,
) -> None:
    """Run trials until the study has no more, or the search is interrupted.

    `folder` is that of the search, `checkpoints` the location of checkpoints. Opens the connection if needed,
    and raises its errors. Raises `NoSuccessError` if the first trials failed with the same error, and
    `StorageError` if the study cannot be used.
    """
    with log.shown(), connection.cluster_loss_first():
        connection.open(log.note)
        if interruption.requested:
            return
        keep_keys_out_of_trials()
        capacity = Capacity(space.trial, limit=space.search.max_concurrent, note=log.note)
        log.note(f"{space.name}: {study.plan}, {capacity.summary()}")
        first_error = FirstError()
        parts = _StudyParts(study, log, interruption, first_error, connection.await_answer)
        tuner = tune.Tuner(
            tune.with_resources(run_trial, _trial_resources),
            param_space=tune_config(str(folder), _workers(space), checkpoints=checkpoints),
            tune_config=tune.TuneConfig(
                search_alg=parts.searcher(capacity, after_end=retention.apply),
                scheduler=parts.scheduler(),
                num_samples=-1,
                trial_dirname_creator=attempt_name,
            ),
            run_config=_session(folder / "sessions", stop=parts.stopper()),
        )
        try:
            with first_error.reraised():
                tuner.fit()
        finally:
            capacity.close()


@dataclass(frozen=True)
class _StudyParts:
    """Searcher, scheduler and stopper of Tune, with their shared first error."""

    study: TrialStudy
    log: EventLog | LivePanel
    interruption: Interruption
    first_error: FirstError
    await_cluster: Callable[[], None]

    def searcher(self, capacity: Capacity, *, after_end: Callable[[], None]) -> StudySearcher:
        return StudySearcher(
            self.study,
            workers_for_next=capacity.workers_for_next,
            interruption=self.interruption,
            listener=self.log,
            first_error=self.first_error,
            await_cluster=self.await_cluster,
            after_end=after_end,
        )

    def scheduler(self) -> StudyScheduler:
        return StudyScheduler(
            self.study,
            interruption=self.interruption,
            listener=self.log,
            first_error=self.first_error,
            await_cluster=self.await_cluster,
        )

    def stopper(self) -> StopAtOnce:
        return StopAtOnce(self.study, interruption=self.interruption, first_error=self.first_error)


def _workers(space: SearchSpace) -> WorkerGroup:
    return WorkerGroup(
        cpus_per_worker=space.trial.cpus_per_worker,
        gpus_per_worker=space.trial.gpus_per_worker,
        hang_timeout_s=space.trial.hang_timeout_s,
    )


def _session(sessions: Path, *, stop: StopAtOnce) -> tune.RunConfig:
    """Run config with a new folder for Tune's files of this launch."""
    return tune.RunConfig(name=str(_next_session(sessions)), storage_path=str(sessions), stop=stop, verbose=0)


def _trial_resources(_config: dict[str, Any]) -> tune.PlacementGroupFactory:
    """Resources of the next trial actor, computed for each trial because nodes join and leave.

    It requests no CPUs, because it only waits for its workers.
    """
    selector = trial_selector([node.labels for node in present_nodes()])
    return tune.PlacementGroupFactory([{"memory": 1}], bundle_label_selector=[selector])


def _next_session(sessions: Path) -> int:
    """Number of this launch: one more than the largest existing one."""
    existing = (
        [int(path.name) for path in sessions.iterdir() if path.name.isdigit()] if sessions.is_dir() else []
    )
    return max(existing, default=0) + 1
