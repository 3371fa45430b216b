"""The share of a training run's time that its checkpoints take, for epochs of half a minute.

A ResNet-18 of full width on the digits at 32 pixels, saved after every epoch as the worker of a trial does:
written, synced, with its manifest last. Prints each epoch, then the share:

    .venv/bin/python benchmarks/checkpoints.py [FOLDER]

FOLDER, the working directory if it is not given, says which disk is measured.
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
    """Train, save every epoch, and print what that took."""
    saving_s: list[float] = []
    reached_s = [time.perf_counter()]
    with tempfile.TemporaryDirectory(dir=folder) as place:

        def report(result: EpochReport) -> None:
            started_s = time.perf_counter()
            path = Path(place) / checkpoint_name(epoch=result.epoch, attempt=0)
            result.save(path)
            saving_s.append(time.perf_counter() - started_s)
            megabytes = sum(file.stat().st_size for file in path.iterdir()) / 1e6
            reached_s.append(time.perf_counter())
            print(
                f"epoch {result.epoch}: {reached_s[-1] - reached_s[-2]:.1f} s, "
                f"of these {saving_s[-1]:.2f} s for a checkpoint of {megabytes:.0f} MB"
            )

        fit(TrainConfig.from_flat(SETTINGS), report=report)
    # The untrained network's is left out: there is no epoch before it.
    share = sum(saving_s[1:]) / (reached_s[-1] - reached_s[1])
    print(f"checkpoints take {share:.2%} of the time")


if __name__ == "__main__":
    main(*sys.argv[1:])
