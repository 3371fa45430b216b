"""Share of the training time spent on checkpoints, for epochs of half a minute.

Trains a full-width ResNet-18 on the digits at 32 pixels, and saves a checkpoint after every epoch as the
worker of a trial does. Prints each epoch, then the share:

    .venv/bin/python benchmarks/checkpoints.py [FOLDER]

FOLDER selects the disk, by default that of the current folder.
"""

import sys
import tempfile
import time
from pathlib import Path

from selfcon.checkpoints.folder import checkpoint_name
from selfcon.config import TrainConfig
from selfcon.train import EpochReport, fit

SETTINGS = {"data.image_size": 32, "optim.epochs": 3, "optim.global_batch_size": 64}


def main(folder: str = ".") -> None:
    """Train, save every epoch, and print the times."""
    saving_s: list[float] = []
    ends_s = [time.perf_counter()]
    with tempfile.TemporaryDirectory(dir=folder) as checkpoints:

        def report(result: EpochReport) -> None:
            started_s = time.perf_counter()
            path = Path(checkpoints) / checkpoint_name(epoch=result.epoch, attempt=0)
            result.save(path)
            saving_s.append(time.perf_counter() - started_s)
            megabytes = sum(file.stat().st_size for file in path.iterdir()) / 1e6
            ends_s.append(time.perf_counter())
            print(
                f"epoch {result.epoch}: {ends_s[-1] - ends_s[-2]:.1f} s, "
                f"including {saving_s[-1]:.2f} s for a checkpoint of {megabytes:.0f} MB"
            )

        fit(TrainConfig.from_flat(SETTINGS), report=report)
    # Without the checkpoint of the untrained network, which has no epoch.
    share = sum(saving_s[1:]) / (ends_s[-1] - ends_s[1])
    print(f"checkpoints take {share:.2%} of the time")


if __name__ == "__main__":
    main(*sys.argv[1:])
