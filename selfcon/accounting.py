"""Cost of a training run: time, memory, accelerator hours and FLOPs, accumulated across resumes."""

import resource
import sys
import time
from collections.abc import Mapping

import torch

from selfcon.distributed import gather_rows_without_gradient, world_size

# A step costs about three forward passes: one, and the gradients of inputs and of weights.
_PASSES_OF_A_TRAINING_STEP = 3
# Part of the totals, because a checkpoint may be written within an epoch; not a metric.
EPOCH_SECONDS = "epoch_seconds"
_RSS_UNIT = 1 if sys.platform == "darwin" else 1024


class CostMeter:
    """Totals over all ranks since the start of the trial; `totals` is stored in checkpoints."""

    def __init__(self, *, device: torch.device, encoder_parameters: int, forward_macs: int) -> None:
        self._device = device
        self._encoder_parameters = encoder_parameters
        self._forward_macs = forward_macs
        self.totals = {"seconds": 0.0, "peak_memory_mb": 0.0, "accelerator_hours": 0.0, "train_macs": 0.0}
        self.totals[EPOCH_SECONDS] = 0.0

    def now(self) -> float:
        """Return the time in seconds after all work queued on the device is done."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        return time.perf_counter()

    def add(self, *, seconds: float, num_views: int) -> None:
        """Add `seconds` of work of all ranks, which trained on `num_views` views in total."""
        num_accelerators = world_size() if self._device.type == "cuda" else 0
        self.totals["seconds"] += seconds
        self.totals["accelerator_hours"] += num_accelerators * seconds / 3600
        self.totals["train_macs"] += _PASSES_OF_A_TRAINING_STEP * self._forward_macs * num_views
        self.totals["peak_memory_mb"] = max(self.totals["peak_memory_mb"], self._peak_memory_mb())

    def begin_epoch(self) -> None:
        """Reset the time of the steps of the epoch."""
        self.totals[EPOCH_SECONDS] = 0.0

    def add_steps(self, *, seconds: float, num_views: int) -> float:
        """Add steps of the current epoch, and return the time of its steps so far.

        Steps before an interruption are included.
        """
        self.add(seconds=seconds, num_views=num_views)
        self.totals[EPOCH_SECONDS] += seconds
        return self.totals[EPOCH_SECONDS]

    def restore(self, totals: Mapping[str, float]) -> None:
        """Continue from the totals of a checkpoint, so that work before an interruption counts."""
        self.totals = {EPOCH_SECONDS: 0.0, **totals}

    def metrics(self) -> dict[str, float]:
        """Return the totals as `cost/...` metrics, with `cost/encoder_parameters`."""
        totals = {f"cost/{name}": value for name, value in self.totals.items() if name != EPOCH_SECONDS}
        return {**totals, "cost/encoder_parameters": float(self._encoder_parameters)}

    def _peak_memory_mb(self) -> float:
        """Maximum over the ranks, in 10^6 bytes: memory of the device, or of the process on a CPU."""
        if self._device.type == "cuda":
            num_bytes = torch.cuda.max_memory_allocated(self._device)
        else:
            num_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _RSS_UNIT
        mine = torch.tensor([num_bytes / 1e6], dtype=torch.float64, device=self._device)
        return float(gather_rows_without_gradient(mine).max())
