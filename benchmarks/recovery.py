"""Recovery time of a trial: from the death of its worker to the first new training step.

Runs a search of one trial on a local Ray cluster and sends SIGKILL to its worker within an epoch. The next
attempt saves the state from which it resumes right before its first step; the time of that checkpoint is
the end of the recovery. Prints each repetition and the median:

    .venv/bin/python benchmarks/recovery.py
"""

import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

REPEATS = 3
TIMEOUT_S = 300.0
SPACE = """
name: recovery
train:
  data: {dataset: digits, image_size: 16, augmentation: none}
  model: {width: 16}
  optim: {epochs: 400, global_batch_size: 64}
space: {seed: {choices: [0]}}
search: {num_trials: 1, sampler: brute_force}
"""
PROJECT = Path(__file__).parents[1]


def main() -> None:
    """Measure and print the recovery times."""
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "space.yaml").write_text(SPACE)
        command = [sys.executable, str(PROJECT / "launch.py"), "--space", "space.yaml"]
        with subprocess.Popen(command, cwd=folder, stdout=subprocess.DEVNULL) as launcher:
            try:
                trial = Path(folder) / "runs/recovery/trials/0000/checkpoints"
                seconds = [measure(trial, launcher.pid, attempt) for attempt in range(1, REPEATS + 1)]
            finally:
                launcher.send_signal(signal.SIGINT)
                launcher.wait()
    print(f"median {statistics.median(seconds):.1f} s from a worker's death to the first new step")


def measure(checkpoints: Path, launcher: int, attempt: int) -> float:
    """Kill the worker of an attempt after two epochs; return the seconds until the next attempt trains."""
    wait_for(checkpoints, attempt, num_epochs=3)
    (worker,) = workers_of(launcher)
    os.kill(worker, signal.SIGKILL)
    killed_s = time.time()
    (resumed_s,) = wait_for(checkpoints, attempt + 1, num_epochs=1)
    print(f"attempt {attempt}: {resumed_s - killed_s:.1f} s")
    return resumed_s - killed_s


def wait_for(checkpoints: Path, attempt: int, *, num_epochs: int) -> list[float]:
    """Wait until an attempt has a number of checkpoints; return their times."""
    seen: dict[str, float] = {}
    deadline = time.monotonic() + TIMEOUT_S
    while time.monotonic() < deadline:
        for manifest in checkpoints.glob(f"*-a{attempt}/manifest.json"):
            if manifest.parent.name not in seen:
                seen[manifest.parent.name] = manifest.stat().st_mtime
        if len(seen) >= num_epochs:
            return sorted(seen.values())
        time.sleep(0.02)
    raise TimeoutError(f"no checkpoint of attempt {attempt}")


def workers_of(launcher: int) -> list[int]:
    """Return the pids of the training workers of a launcher."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(r"^ *(\d+) +(\d+) (.*)$", listing, re.MULTILINE)
    descendants = {launcher}
    while len(
        grown := descendants | {int(pid) for pid, parent, _ in rows if int(parent) in descendants}
    ) > len(descendants):
        descendants = grown
    return [
        int(p) for p, _, title in rows if int(p) in descendants and title.startswith("ray::RayTrainWorker")
    ]


if __name__ == "__main__":
    main()
