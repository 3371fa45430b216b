"""Worker of Ray Train: trains with selfcon, and stores a checkpoint before each report."""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcon.callbacks import Progress


def train_worker(task: dict[str, Any]) -> None:
    """Train one attempt of a trial from its newest valid checkpoint.

    `task` has `train` (the TrainConfig as JSON values), `checkpoints` (their location), `name` (of the
    trial), `attempt`, `hang_timeout_s`, `node` (of the trial actor), and `last_epoch`, the newest recorded
    epoch; a checkpoint may be newer if the launcher died before it recorded the epoch.

    If a node of the attempt is draining, the attempt ends within the epoch with a checkpoint, and reports
    `failure` and `message` like the trial actor. Raises `HungError` if the training makes no progress.
    """
    # Imported here, because the trial actor imports this module only to reference the function.
    import ray.train

    from tune_jobs.execution.watchdog import Watchdog

    rank = ray.train.get_context().get_world_rank()
    watchdog = Watchdog(timeout_s=task["hang_timeout_s"], name=f"rank {rank}")
    watchdog.run(partial(_train, task, watchdog.beat))


def _train(task: dict[str, Any], progress: "Progress") -> None:
    """Train as a rank of the group, until the end or until a node of the attempt is draining."""
    import ray

    from selfcon.callbacks import Callbacks
    from selfcon.config import TrainConfig
    from selfcon.distributed import gather_objects
    from selfcon.train import fit
    from tune_jobs.cluster.draining import drain_notice
    from tune_jobs.execution.process_group import process_group
    from tune_jobs.execution.worker_reports import WorkerReports

    config = TrainConfig.from_mapping(task["train"])
    node = ray.get_runtime_context().get_node_id()
    with (
        process_group(hang_timeout_s=task["hang_timeout_s"]),
        drain_notice(frozenset({task["node"], *gather_objects(node)})) as is_draining,
    ):
        reports = WorkerReports(task, progress)
        with reports.checkpoint_on_preemption():
            fit(
                config,
                report=reports.epoch,
                resume_from=reports.newest_state(config),
                callbacks=Callbacks(progress=progress, stop_requested=is_draining, save_at_once=reports.save),
            )
