"""Let Ray Tune run what the study hands out, each trial as a Train run of its own."""

from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path

import ray
from ray import tune

from tune_jobs.cluster import Fit, trials_at_once
from tune_jobs.console import EventLog
from tune_jobs.interruption import Interruption, StopWhenOverdue
from tune_jobs.ray_session import ray_session
from tune_jobs.searcher import Fault, StudyScheduler, StudySearcher
from tune_jobs.space import SearchSpace
from tune_jobs.study import SearchStudy
from tune_jobs.trial import WorkerGroup, attempt_name, run_trial, tune_config


def run_trials(
    space: SearchSpace,
    study: SearchStudy,
    *,
    folder: Path,
    address: str | None,
    resources: Mapping[str, float],
    interruption: Interruption,
    log: EventLog,
) -> None:
    """Run trials until the study has no more, or the search is interrupted.

    `folder` is the search's; what Ray prints goes to `ray.log` there. `resources` are this machine's, used
    where no cluster's `address` is given. Raises `ClusterLostError` when no cluster answers there,
    `NoSuccessError` when the first trials failed alike, and `StorageError` when the study cannot be used.
    """
    with (folder / "ray.log").open("a") as ray_log, redirect_stdout(ray_log), ray_session(address, resources):
        interruption.take_over()
        fit = trials_at_once(ray.cluster_resources(), space.trial)
        at_once = _at_once(fit, space.search.max_concurrent)
        log.note(f"{space.name}: {study.num_trials} trials, {at_once} at once ({fit.arithmetic})")
        fault = Fault()
        searcher = StudySearcher(
            study, max_concurrent=at_once, interruption=interruption, watcher=log, fault=fault
        )
        workers = WorkerGroup(
            num_workers=space.trial.num_workers,
            cpus_per_worker=space.trial.cpus_per_worker,
            gpus_per_worker=space.trial.gpus_per_worker,
        )
        tuner = tune.Tuner(
            # The trial itself only waits for its workers: asking for CPUs would take them from those.
            tune.with_resources(run_trial, {"CPU": 0, "memory": 1}),
            param_space=tune_config(str(folder), workers),
            tune_config=tune.TuneConfig(
                search_alg=searcher,
                scheduler=StudyScheduler(study, interruption=interruption, watcher=log, fault=fault),
                num_samples=-1,
                trial_dirname_creator=attempt_name,
            ),
            run_config=tune.RunConfig(
                name=str(_next_session(folder / "sessions")),
                storage_path=str(folder / "sessions"),
                stop=StopWhenOverdue(interruption),
                verbose=0,
            ),
        )
        tuner.fit()
    if fault.error:
        raise fault.error


def _at_once(fit: Fit, max_concurrent: int | str) -> int:
    return min(fit.count, max_concurrent) if isinstance(max_concurrent, int) else fit.count


def _next_session(sessions: Path) -> int:
    """The number of this launch: one more than the largest there is."""
    taken = (
        [int(path.name) for path in sessions.iterdir() if path.name.isdigit()] if sessions.is_dir() else []
    )
    return max(taken, default=0) + 1
