"""The trial actor of Ray Tune: runs one attempt as one run of Ray Train."""

import os
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.experiment import Trial

from tune_jobs.cluster.ray_internals import train_once
from tune_jobs.execution.failure_causes import failure_of
from tune_jobs.search_folder import trial_folder

# Added to the hang timeout for Ray Train's health check, so that the watchdogs of waiting ranks report first.
HEALTH_CHECK_MARGIN_S = 5.0


@dataclass(frozen=True)
class WorkerGroup:
    """Settings of the workers of all attempts: resources of each, and the timeout for hangs."""

    cpus_per_worker: float
    gpus_per_worker: float
    hang_timeout_s: float


def run_trial(config: dict[str, Any]) -> None:
    """Train one attempt, and report the reason if it fails.

    `config` has the attempt from the searcher (`name`, `attempt`, `train`, `last_epoch`, `num_workers`), and
    the settings of all trials: `search_folder`, `checkpoints` (their location) and `workers`.
    """
    from tune_jobs.execution.worker import train_worker

    train_attempt(config, train_worker)


def train_attempt(config: dict[str, Any], train_worker: Callable[[dict[str, Any]], None]) -> None:
    """Run `train_worker` on the workers of one attempt; see `run_trial`."""
    workers = WorkerGroup(**config["workers"])
    os.environ["RAY_TRAIN_WORKER_HEALTH_CHECK_TIMEOUT_S"] = str(
        workers.hang_timeout_s + HEALTH_CHECK_MARGIN_S
    )
    error = train_once(
        train_worker,
        {
            "train": config["train"],
            "checkpoints": config["checkpoints"],
            "name": config["name"],
            "attempt": config["attempt"],
            "last_epoch": config["last_epoch"],
            "hang_timeout_s": workers.hang_timeout_s,
            "node": ray.get_runtime_context().get_node_id(),
        },
        name=str(config["attempt"]),
        storage_path=attempts_folder(config),
        num_workers=config["num_workers"],
        resources_per_worker=_resources(workers),
    )
    if error is not None:
        reason, message = failure_of(error, folder=Path(config["search_folder"]))
        tune.report({"failure": reason, "message": message})


def attempts_folder(config: Mapping[str, Any]) -> str:
    """Return the folder for the files that Ray Train writes for attempts; they are never read.

    With a separate checkpoint storage, nodes may not see the folder of the search; then it is a temporary
    folder on the node of the trial actor.
    """
    if config["checkpoints"] == config["search_folder"]:
        return str(trial_folder(Path(config["search_folder"]), config["name"]) / "attempts")
    return str(
        Path(tempfile.gettempdir(), "selfcon-attempts", Path(config["search_folder"]).name, config["name"])
    )


def attempt_name(trial: Trial) -> str:
    """Return the name of Tune's folder of an attempt."""
    return f"{trial.config['name']}-a{trial.config['attempt']}"


def _resources(workers: WorkerGroup) -> dict[str, float]:
    resources = {"CPU": workers.cpus_per_worker, "GPU": workers.gpus_per_worker}
    return {name: amount for name, amount in resources.items() if amount}


def tune_config(search_folder: str, workers: WorkerGroup, *, checkpoints: str) -> dict[str, Any]:
    """Return the part of the config of `run_trial` that is the same for all trials."""
    return {"search_folder": search_folder, "checkpoints": checkpoints, "workers": asdict(workers)}
