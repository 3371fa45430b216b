"""Inside a Ray Train worker: the training of selfcon, with a checkpoint in storage before each report."""

from typing import Any


def train_worker(task: dict[str, Any]) -> None:
    """Train one attempt of a trial from its newest valid checkpoint.

    `task` holds `train` (the TrainConfig as JSON values), `checkpoints` (where the search's lie), `name` (the
    trial's), `attempt`, and `last_epoch`, the newest that was recorded: a checkpoint may be newer,
    written when nobody recorded any more.
    """
    # Here, not above: the trial's own process imports this module only to name the function.
    import ray.train

    from selfcon.config import TrainConfig
    from selfcon.distributed import broadcast_object, rank
    from selfcon.train import EpochReport, fit
    from tune_jobs.process_group import process_group
    from tune_jobs.trial_checkpoints import TrialCheckpoints

    checkpoints = TrialCheckpoints(task["checkpoints"], trial=task["name"], attempt=int(task["attempt"]))

    def report(result: EpochReport) -> None:
        if rank() == 0:
            checkpoints.save(result.payloads(), epoch=result.epoch)
        ray.train.report({"epoch": result.epoch, "metrics": result.metrics, **checkpoints.notes()})

    config = TrainConfig.from_mapping(task["train"])
    with process_group():
        newest = broadcast_object(checkpoints.newest() if rank() == 0 else None)
        state = None if newest is None else checkpoints.load(newest, config=config)
        if state is not None:
            history = state.history
            for epoch in range(task["last_epoch"] + 1, len(history) - 1):  # fit reports the newest itself
                ray.train.report({"epoch": epoch, "metrics": history[epoch], **checkpoints.notes()})
        fit(config, report=report, resume_from=state)
