"""Number of trials and workers that fit at once, as pure functions of the resources of the nodes."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tune_jobs.cluster.resources import plural, shown_resources
from tune_jobs.space.settings import TrialSettings

# Granularity of resources in Ray.
RAY_UNIT = 0.0001


@dataclass(frozen=True)
class Fit:
    """Number of trials that fit at once, and the calculation as text."""

    count: int
    arithmetic: str


def worker_resources(trial: TrialSettings) -> dict[str, float]:
    """Return the `CPU` and `GPU` of one worker, without those that are 0."""
    amounts = {"CPU": trial.cpus_per_worker, "GPU": trial.gpus_per_worker}
    return {resource: each for resource, each in amounts.items() if each > 0}


def trials_at_once(
    nodes: Sequence[Mapping[str, float]], trial: TrialSettings, *, limit: int | Literal["auto"] = "auto"
) -> Fit:
    """Return the number of trials whose workers fit on the nodes, at most `limit` (search.max_concurrent).

    `nodes` has the `CPU` and `GPU` of each node; a missing key is 0. A worker runs on one node; the workers
    of a trial may run on several. Only workers need resources, not the trial actor. A trial with a range of
    workers takes as many as fit, up to its maximum.
    """
    counts, parts = [], []
    for resource, each in worker_resources(trial).items():
        present = math.fsum(node.get(resource, 0.0) for node in nodes)
        counts.append(_trials(_units(present) // _units(each), trial))
        one = f"({shown_workers(trial)} x {plural(each, resource)})"
        parts.append(f"{plural(present, resource)} / {one} = {counts[-1]}")
    num_workers = workers_held(nodes, trial)
    count = _trials(num_workers, trial)
    if count < min(counts):
        verb = "holds" if len(nodes) == 1 else "hold"
        parts.append(f"but {plural(len(nodes), 'node')} {verb} {plural(num_workers, 'worker')}: {count}")
    elif len(nodes) > 1:
        parts.append(plural(len(nodes), "node"))
    if limit != "auto":
        count = min(count, limit)
        parts.append(f"at most {limit} (search.max_concurrent)")
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
        f"{held} of {at_least}{trial.min_workers} fit on {plural(len(nodes), 'node')}"
    )


def shown_workers(trial: TrialSettings) -> str:
    """Return the number of workers of a trial as text: `2 workers`, or `1 to 4 workers`."""
    least = "" if trial.min_workers == trial.max_workers else f"{trial.min_workers} to "
    return least + plural(trial.max_workers, "worker")


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
