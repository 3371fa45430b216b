"""Checkpoints and reports of a worker: each epoch is stored before it is reported."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import ray.train

from selfcon.callbacks import Progress
from selfcon.checkpoints.state import TrainingState
from selfcon.config import TrainConfig
from selfcon.distributed import broadcast_object, rank
from selfcon.errors import TrainingStopped
from selfcon.train import EpochReport
from tune_jobs.checkpoints.trial_checkpoints import TrialCheckpoints
from tune_jobs.study.records import Reason


class WorkerReports:
    """Reports of one worker about the attempt `task`: see `train_worker`."""

    def __init__(self, task: dict[str, Any], progress: Progress) -> None:
        self._checkpoints = TrialCheckpoints(
            task["checkpoints"], trial=task["name"], attempt=int(task["attempt"])
        )
        self._last_epoch, self._progress = int(task["last_epoch"]), progress

    def newest_state(self, config: TrainConfig) -> TrainingState | None:
        """Return the newest valid checkpoint, the same on all ranks; None if there is none.

        Reports its epochs that were not recorded, except the newest, which `fit` reports.
        """
        newest = broadcast_object(self._checkpoints.newest() if rank() == 0 else None)
        if newest is None:
            return None
        state = self._checkpoints.load(newest, config=config)
        for epoch in range(self._last_epoch + 1, len(state.history) - 1):
            self._report(epoch, state.history[epoch], state.confusions.get(str(epoch)))
        return state

    def epoch(self, result: EpochReport) -> None:
        """Store and report an epoch."""
        if rank() == 0:
            self._checkpoints.save(result.payloads(), epoch=result.epoch, step=result.step)
        confusion = None if result.confusion is None else result.confusion.as_json()
        self._report(result.epoch, result.metrics, confusion)
        self._progress(f"the report of epoch {result.epoch}")

    def save(self, stopped: TrainingStopped) -> None:
        """Store a checkpoint within an epoch."""
        self._checkpoints.save(stopped.payloads(), epoch=stopped.epoch - 1, step=stopped.step)

    @contextmanager
    def checkpoint_on_preemption(self) -> Iterator[None]:
        """Store and report a checkpoint if the block ends because of a preemption notice."""
        try:
            yield
        except TrainingStopped as stopped:
            if rank() == 0:
                self.save(stopped)
            # After the checkpoint is complete, because Train ends all workers when they have returned.
            ray.train.report({"failure": Reason.PREEMPTED.value, "message": str(stopped)})

    def _report(self, epoch: int, metrics: dict[str, float], confusion: dict[str, Any] | None) -> None:
        found = {} if confusion is None else {"confusion": json.dumps(confusion)}
        ray.train.report({"epoch": epoch, "metrics": metrics, **found, **self._checkpoints.notes()})
