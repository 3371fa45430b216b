"""Clean-up of orphaned actors of Ray Train in a cluster that outlives the search.

For each run, Ray Train starts a detached actor that removes the placement group of the run when its
controller dies. If the controller is killed before it has registered there, the actor never exits. Such
actors are found by their namespace, which belongs to one search and one launcher.
"""

import os
import signal
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy
from ray.util.state import list_actors
from ray.util.state.exception import RayStateApiException

from tune_jobs.cluster.ray_internals import PLACEMENT_GROUP_CLEANER

ANSWER_TIMEOUT_S = 10
MAX_ACTORS = 1000


def kill_orphaned_actors(namespace: str) -> None:
    """Kill the orphaned clean-up actors in the namespace of a search. None of its trials may be running.

    If the cluster does not answer, the actors stay until the next launch.
    """
    try:
        actors = list_actors(
            ray.get_runtime_context().gcs_address,
            filters=[("class_name", "=", PLACEMENT_GROUP_CLEANER), ("state", "=", "ALIVE")],
            limit=MAX_ACTORS,
            timeout=ANSWER_TIMEOUT_S,
            detail=True,
        )
        kills = [_kill_on(a.node_id, a.pid) for a in actors if a.ray_namespace == namespace]
        ray.get(kills, timeout=ANSWER_TIMEOUT_S)
    except (RayError, RayStateApiException, ConnectionError):
        return


def _kill_on(node_id: str | None, pid: int | None) -> "ray.ObjectRef[None]":
    """Kill an actor by a task on its node: it has no name, so no handle can kill it."""
    assert node_id is not None
    assert pid is not None
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(_kill).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(pid)


def _kill(pid: int) -> None:
    title = Path(f"/proc/{pid}/cmdline")  # the process id may have been reused
    if title.is_file() and title.read_bytes().startswith(f"ray::{PLACEMENT_GROUP_CLEANER}".encode()):
        os.kill(pid, signal.SIGKILL)
