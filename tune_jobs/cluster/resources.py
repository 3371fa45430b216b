"""Resources of machines, and the number of trials that fit into them."""

import math
import os
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.space.settings import TrialSettings

# Granularity of resources in Ray.
RAY_UNIT = 0.0001
CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
NVIDIA_SMI_TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Fit:
    """Number of trials that fit at once, and the calculation as text."""

    count: int
    arithmetic: str


def worker_resources(trial: TrialSettings) -> dict[str, float]:
    """Return the `CPU` and `GPU` of one worker, without those that are 0."""
    amounts = {"CPU": trial.cpus_per_worker, "GPU": trial.gpus_per_worker}
    return {resource: each for resource, each in amounts.items() if each > 0}


def trials_at_once(nodes: Sequence[Mapping[str, float]], trial: TrialSettings) -> Fit:
    """Return the number of trials whose workers fit on the nodes.

    `nodes` has the `CPU` and `GPU` of each node; a missing key is 0. A worker runs on one node; the workers
    of a trial may run on several. Only workers need resources, not the trial actor. A trial with a range of
    workers takes as many as fit, up to its maximum.
    """
    counts, parts = [], []
    for resource, each in worker_resources(trial).items():
        present = math.fsum(node.get(resource, 0.0) for node in nodes)
        counts.append(_trials(_units(present) // _units(each), trial))
        one = f"({shown_workers(trial)} x {_plural(each, resource)})"
        parts.append(f"{_plural(present, resource)} / {one} = {counts[-1]}")
    num_workers = workers_held(nodes, trial)
    count = _trials(num_workers, trial)
    if count < min(counts):
        verb = "holds" if len(nodes) == 1 else "hold"
        parts.append(f"but {_plural(len(nodes), 'node')} {verb} {_plural(num_workers, 'worker')}: {count}")
    elif len(nodes) > 1:
        parts.append(_plural(len(nodes), "node"))
    return Fit(count, ", ".join(parts))


def workers_held(nodes: Sequence[Mapping[str, float]], trial: TrialSettings) -> int:
    """Return the number of workers that fit on the nodes, each on one node.

    A fraction of a GPU comes from one device: four workers with 0.4 GPUs fit on two devices, not five.
    """
    each = worker_resources(trial)
    return sum(min(_shares(node.get(name, 0.0), each[name], name) for name in each) for node in nodes)


def workers_for_next(nodes: Sequence[Mapping[str, float]], trial: TrialSettings, live: Sequence[int]) -> int:
    """Return the number of workers of the next trial, 0 if it must wait.

    `live` has the number of workers of each running trial. The next one takes as many as fit in addition, up
    to its maximum.
    """
    free = workers_held(nodes, trial) - sum(live)
    return min(free, trial.max_workers) if free >= trial.min_workers else 0


def waiting_for(nodes: Sequence[Mapping[str, float]], trial: TrialSettings) -> str:
    """Return a line that says how many workers of a trial do not fit on the nodes now."""
    held = workers_held(nodes, trial)
    missing = trial.min_workers - held
    at_least = "" if trial.min_workers == trial.max_workers else "at least "
    return (
        f"waiting for {missing} more worker{'' if missing == 1 else 's'}"
        f" of {shown_resources(worker_resources(trial))}: "
        f"{held} of {at_least}{trial.min_workers} fit on {_plural(len(nodes), 'node')}"
    )


def shown_workers(trial: TrialSettings) -> str:
    """Return the number of workers of a trial as text: `2 workers`, or `1 to 4 workers`."""
    least = "" if trial.min_workers == trial.max_workers else f"{trial.min_workers} to "
    return least + _plural(trial.max_workers, "worker")


def shown_resources(resources: Mapping[str, float]) -> str:
    """Return the CPUs and GPUs of `resources` as text, for example `4 CPUs and 1 GPU`."""
    amounts = {name: resources.get(name, 0.0) for name in ("CPU", "GPU")}
    shown = [_plural(amount, name) for name, amount in amounts.items() if amount > 0]
    return " and ".join(shown) or _plural(0, "CPU")


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


def _trials(num_workers: int, trial: TrialSettings) -> int:
    """Number of trials for a number of workers: each takes its maximum, the last one the rest."""
    full, left = divmod(num_workers, trial.max_workers)
    return full + (left >= trial.min_workers)


def _shares(present: float, each: float, resource: str) -> int:
    if resource == "GPU" and each < 1:
        return math.floor(present) * (_units(1) // _units(each))
    return _units(present) // _units(each)


def _units(amount: float) -> int:
    return math.floor(amount / RAY_UNIT + 0.5)


def _plural(amount: float, noun: str) -> str:
    return f"{amount:g} {noun}{'' if amount == 1 else 's'}"
