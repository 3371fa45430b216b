"""CPUs and GPUs of this machine, and resources as text."""

import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path

CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
NVIDIA_SMI_TIMEOUT_S = 20.0


def machine_resources() -> dict[str, float]:
    """Return the numbers of CPUs and GPUs of this machine that this process may use.

    CPUs: the minimum of the affinity of the process and the quota of the container (cgroup v2), at least 1.
    GPUs: those listed by nvidia-smi and visible by CUDA_VISIBLE_DEVICES; 0 without nvidia-smi.
    """
    quota = CPU_QUOTA.read_text() if CPU_QUOTA.is_file() else ""
    cpus = usable_cpus(available=_affinity(), quota=quota)
    gpus = visible_gpus(_listed_gpus(), os.environ.get("CUDA_VISIBLE_DEVICES"))
    return {"CPU": float(cpus), "GPU": float(gpus)}


def usable_cpus(*, available: int, quota: str) -> int:
    """Return how many of the `available` CPUs a quota allows, in the format of cgroup's cpu.max."""
    allowed, _, period = quota.strip().partition(" ")
    if not (allowed.isdecimal() and period.isdecimal() and int(period) > 0):
        return available
    return min(available, max(1, int(allowed) // int(period)))


def visible_gpus(present: int, visible_devices: str | None) -> int:
    """Return how many GPUs CUDA_VISIBLE_DEVICES allows; -1 hides all devices that follow."""
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
    except (OSError, subprocess.TimeoutExpired):  # if the driver does not answer, no GPU can be used
        return 0
    return sum(line.startswith("GPU ") for line in listing.stdout.splitlines())


def shown_resources(resources: Mapping[str, float]) -> str:
    """Return the CPUs and GPUs of `resources` as text, for example `4 CPUs and 1 GPU`."""
    amounts = {name: resources.get(name, 0.0) for name in ("CPU", "GPU")}
    shown = [plural(amount, name) for name, amount in amounts.items() if amount > 0]
    return " and ".join(shown) or plural(0, "CPU")


def plural(amount: float, noun: str) -> str:
    """Return an amount with its noun: `1 CPU`, `2 CPUs`."""
    return f"{amount:g} {noun}{'' if amount == 1 else 's'}"
