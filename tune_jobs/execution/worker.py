"""Inside a Ray Train worker: the training of selfcon, with a checkpoint in storage before each report."""

from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcon.callbacks import Progress


def train_worker(task: dict[str, Any]) -> None:
    """Train one attempt of a trial from its newest valid checkpoint.

    `task` holds `train` (the TrainConfig as JSON values), `checkpoints` (where the search's lie), `name` (the
    trial's), `attempt`, `hang_timeout_s`, `node` (where the trial's own process is), and `last_epoch`, the
    newest that was recorded: a checkpoint may be newer, written when nobody recorded any more.

    Where a node that the attempt stands on is to go, it ends within the epoch, with a checkpoint, and reports
    `failure` and `message` as the trial's process does. Raises `HungError` when nothing gets on any more.
    """
    # Here, not above: the trial's own process imports this module only to name the function.
    import ray.train

    from tune_jobs.execution.watchdog import Watchdog

    rank = ray.train.get_context().get_world_rank()
    watchdog = Watchdog(timeout_s=task["hang_timeout_s"], name=f"rank {rank}")
    watchdog.run(partial(_train, task, watchdog.beat))


def _train(task: dict[str, Any], progress: "Progress") -> None:
    """Train as a rank of the group, until a node that the attempt stands on is to go."""
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
