"""What a machine or a cluster holds, and how many trials fit into it at once."""

import math
import os
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.space.settings import TrialSettings

# Ray counts resources in these steps.
RAY_UNIT = 0.0001
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
NVIDIA_SMI_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Fit:
    """How many trials fit at once, and the arithmetic in words."""

    count: int
    arithmetic: str


def trials_at_once(resources: Mapping[str, float], trial: TrialSettings) -> Fit:
    """Return how many trials' workers fit into `resources` (`CPU`, `GPU`; what is not there is 0) together.

    Only the workers count: the trial itself waits for them and takes nothing.
    """
    counts, words = [], []
    workers = f"{trial.num_workers} worker{'s' if trial.num_workers > 1 else ''}"
    for resource, each in (("CPU", trial.cpus_per_worker), ("GPU", trial.gpus_per_worker)):
        if each > 0:
            present = resources.get(resource, 0.0)
            counts.append(_units(present) // (trial.num_workers * _units(each)))
            words.append(
                f"{_amount(present, resource)} / ({workers} x {_amount(each, resource)}) = {counts[-1]}"
            )
    return Fit(min(counts), ", ".join(words))


def machine_resources() -> dict[str, float]:
    """Return this machine's `CPU` and `GPU` counts, as far as this process may use them.

    CPUs: the process's affinity and the container's quota (cgroup v2), the smaller, at least 1. GPUs: what
    nvidia-smi lists and CUDA_VISIBLE_DEVICES leaves; 0 without nvidia-smi.
    """
    quota = CPU_QUOTA.read_text() if CPU_QUOTA.is_file() else ""
    cpus = usable_cpus(available=_affinity(), quota=quota)
    gpus = visible_gpus(_listed_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return {"CPU": float(cpus), "GPU": float(gpus)}


def usable_cpus(*, available: int, quota: str) -> int:
    """Return how many of the `available` CPUs a quota leaves, which is spelled as in cgroup's cpu.max."""
    allowed, _, period = quota.strip().partition(" ")
    if not (allowed.isdecimal() and period.isdecimal() and int(period) > 0):
        return available
    return min(available, max(1, int(allowed) // int(period)))


def visible_gpus(present: int, visible_devices: str | None) -> int:
    """Return how many GPUs CUDA_VISIBLE_DEVICES leaves; a device of -1 hides itself and what follows."""
    if visible_devices is None:
        return present
    devices = [device.strip() for device in visible_devices.split(",")]
    shown = next((i for i, device in enumerate(devices) if device in ("", "-1")), len(devices))
    return min(present, shown)


def _affinity() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _listed_gpus() -> int:
    command = shutil.which("nvidia-smi")
    if command is None:
        return 0
    try:
        listing = subprocess.run(
            [command, "--list-gpus"],
            capture_output=True,
            text=True,
            timeout=NVIDIA_SMI_TIMEOUT_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):  # a driver that does not answer drives nothing
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def _units(amount: float) -> int:
    return math.floor(amount / RAY_UNIT + 0.5)


def _amount(amount: float, resource: str) -> str:
    plural = "" if amount == 1 else "s"
    return f"{amount:g} {resource}{plural}"
