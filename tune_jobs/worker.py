"""Inside a Ray Train worker: the training of selfcon, with a checkpoint in storage before each report."""

import json
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from selfcon.progress import Progress


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

    from tune_jobs.watchdog import Watchdog

    rank = ray.train.get_context().get_world_rank()
    watchdog = Watchdog(timeout_s=task["hang_timeout_s"], name=f"rank {rank}")
    watchdog.run(partial(_train, task, watchdog.beat))


def _train(task: dict[str, Any], progress: "Progress") -> None:
    import ray.train

    from selfcon.config import TrainConfig
    from selfcon.distributed import broadcast_object, gather_objects, rank
    from selfcon.errors import TrainingStopped
    from selfcon.train import EpochReport, fit
    from tune_jobs.preemption import drain_notice
    from tune_jobs.process_group import process_group
    from tune_jobs.records import Reason
    from tune_jobs.trial_checkpoints import TrialCheckpoints

    checkpoints = TrialCheckpoints(task["checkpoints"], trial=task["name"], attempt=int(task["attempt"]))

    def tell(epoch: int, metrics: dict[str, float], confusion: dict[str, Any] | None) -> None:
        found = {} if confusion is None else {"confusion": json.dumps(confusion)}
        ray.train.report({"epoch": epoch, "metrics": metrics, **found, **checkpoints.notes()})

    def report(result: EpochReport) -> None:
        if rank() == 0:
            checkpoints.save(result.payloads(), epoch=result.epoch, step=result.step)
        confusion = None if result.confusion is None else result.confusion.as_json()
        tell(result.epoch, result.metrics, confusion)
        progress(f"the report of epoch {result.epoch}")

    def save(stopped: TrainingStopped) -> None:
        checkpoints.save(stopped.payloads(), epoch=stopped.epoch - 1, step=stopped.step)

    config = TrainConfig.from_mapping(task["train"])
    node = ray.get_runtime_context().get_node_id()
    with (
        process_group(hang_timeout_s=task["hang_timeout_s"]),
        drain_notice(frozenset({task["node"], *gather_objects(node)})) as is_draining,
    ):
        newest = broadcast_object(checkpoints.newest() if rank() == 0 else None)
        state = None if newest is None else checkpoints.load(newest, config=config)
        if state is not None:
            history = state.history
            for epoch in range(task["last_epoch"] + 1, len(history) - 1):  # fit reports the newest itself
                tell(epoch, history[epoch], state.confusions.get(str(epoch)))
        try:
            fit(
                config,
                report=report,
                resume_from=state,
                stop_requested=is_draining,
                save_at_once=save,
                progress=progress,
            )
        except TrainingStopped as stopped:
            if rank() == 0:
                save(stopped)
            # Not before the checkpoint is whole: Train ends all workers once each has returned.
            ray.train.report({"failure": Reason.PREEMPTED.value, "message": str(stopped)})
