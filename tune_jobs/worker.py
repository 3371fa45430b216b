"""Inside a Ray Train worker: the training of selfcon, with a checkpoint in storage before each report."""

from pathlib import Path
from typing import Any


def train_worker(task: dict[str, Any]) -> None:
    """Train one attempt of a trial from its newest valid checkpoint.

    `task` holds `train` (the TrainConfig as JSON values), `folder` (the trial's), `attempt`, and
    `last_epoch`, the newest that was recorded: a checkpoint may be newer, written when nobody recorded any
    more.
    """
    # Here, not above: the trial's own process imports this module only to name the function.
    import ray.train

    from selfcon.checkpoint import load_checkpoint, newest_valid
    from selfcon.config import TrainConfig
    from selfcon.distributed import broadcast_object, rank
    from selfcon.train import EpochReport, fit
    from tune_jobs.process_group import process_group
    from tune_jobs.trial_folder import checkpoint_path, checkpoints_folder, remove_old_checkpoints

    folder, attempt = Path(task["folder"]), int(task["attempt"])

    def report(result: EpochReport) -> None:
        if rank() == 0:
            path = checkpoint_path(folder, epoch=result.epoch, attempt=attempt)
            result.save(path)
            remove_old_checkpoints(folder, epoch=result.epoch)
        ray.train.report({"epoch": result.epoch, "metrics": result.metrics})

    config = TrainConfig.from_mapping(task["train"])
    with process_group():
        newest = broadcast_object(newest_valid(checkpoints_folder(folder)))
        if newest is not None:
            history = load_checkpoint(newest, config=config).history
            for epoch in range(task["last_epoch"] + 1, len(history) - 1):  # fit reports the newest itself
                ray.train.report({"epoch": epoch, "metrics": history[epoch]})
        fit(config, report=report, resume_from=newest)
