"""How long a trial stands still after its worker was killed: from the death to the first new step.

A real search of one trial on this machine's own Ray cluster, whose worker gets SIGKILL in the middle of an
epoch. The next attempt writes the state that it found as its own first checkpoint, right before its first
step: when that is whole is what is measured. Prints each repeat and the median:

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
    """Measure and print."""
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
    """Kill the worker of an attempt once it has finished two epochs; return how long the next one takes."""
    wait_for(checkpoints, attempt, num_epochs=3)
    (worker,) = workers_of(launcher)
    os.kill(worker, signal.SIGKILL)
    killed_s = time.time()
    (begun_s,) = wait_for(checkpoints, attempt + 1, num_epochs=1)
    print(f"attempt {attempt}: {begun_s - killed_s:.1f} s")
    return begun_s - killed_s


def wait_for(checkpoints: Path, attempt: int, *, num_epochs: int) -> list[float]:
    """Return the times of an attempt's first checkpoints, as soon as there are so many."""
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
    """Return the processes below the launcher that train."""
    listing = subprocess.run(
        ["ps", "-eo", "pid=,ppid=,args="], capture_output=True, text=True, check=True
    ).stdout
    rows = re.findall(r"^ *(\d+) +(\d+) (.*)$", listing, re.MULTILINE)
    below = {launcher}
    while len(grown := below | {int(pid) for pid, parent, _ in rows if int(parent) in below}) > len(below):
        below = grown
    return [int(p) for p, _, title in rows if int(p) in below and title.startswith("ray::RayTrainWorker")]


if __name__ == "__main__":
    main()
