"""One rank of a training run for the tests: `python fit_worker.py SPEC.json RANK` writes OUT/<rank>.json.

Runs `selfcon.train.fit` in a gloo group, or in none where the world size is 1, and records the loss of every
step and what was reported.
"""

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, distributed

from selfcon.config import TrainConfig
from selfcon.objective import training_loss
from selfcon.train import EpochReport, fit


def recording(losses: list[float]) -> Callable[..., Tensor]:
    """The loss, noting this rank's share of every step; the mean over the ranks is the global batch's."""

    def noted_loss(*args: Any, **kwargs: Any) -> Tensor:
        loss = training_loss(*args, **kwargs)
        losses.append(loss.item())
        return loss

    return noted_loss


def main(spec_path: Path, rank: int) -> None:
    torch.set_num_threads(1)
    spec = json.loads(spec_path.read_text())
    if spec["world_size"] > 1:
        distributed.init_process_group(
            "gloo", init_method=spec["init_method"], rank=rank, world_size=spec["world_size"]
        )
    losses: list[float] = []
    reports: list[dict[str, float]] = []

    def report(epoch_report: EpochReport) -> None:
        reports.append(epoch_report.metrics)

    result: dict[str, Any] = {}
    try:
        with patch("selfcon.train.training_loss", recording(losses)):
            fit(TrainConfig.from_flat(spec["config"]), report=report)
    except Exception as error:
        result["error"] = f"{type(error).__name__}: {error}"
    result |= {"losses": losses, "reports": reports}
    (Path(spec["output"]) / f"{rank}.json").write_text(json.dumps(result))
    if spec["world_size"] > 1:
        distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
    # What is to be judged is on disk; gloo's threads sometimes abort a busy machine's interpreter as it ends.
    os._exit(0)
