"""What Ray Train may leave behind in a cluster that outlives the search: ended by the search itself.

Ray Train gives each run a detached actor that removes the run's placement group when its controller dies. An
actor whose controller is killed before it was told what to watch watches nothing, for ever. They are told by
the namespace: a search is the only one in its own, and one launcher at a time runs it.
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
MOST_ACTORS = 1000


def kill_orphaned_actors(namespace: str) -> None:
    """End the clean-up actors of a search's namespace, while none of its trials runs.

    A cluster that does not answer keeps them until the next launch.
    """
    try:
        actors = list_actors(
            ray.get_runtime_context().gcs_address,
            filters=[("class_name", "=", PLACEMENT_GROUP_CLEANER), ("state", "=", "ALIVE")],
            limit=MOST_ACTORS,
            timeout=ANSWER_TIMEOUT_S,
            detail=True,
        )
        ended = [_end_on(a.node_id, a.pid) for a in actors if a.ray_namespace == namespace]
        ray.get(ended, timeout=ANSWER_TIMEOUT_S)
    except (RayError, RayStateApiException, ConnectionError):
        return


def _end_on(node_id: str | None, pid: int | None) -> "ray.ObjectRef[None]":
    """Without a name there is no handle to kill it by, so a task on its node ends its process."""
    assert node_id is not None
    assert pid is not None
    strategy = NodeAffinitySchedulingStrategy(node_id, soft=False)
    return ray.remote(_end).options(num_cpus=0, max_retries=0, scheduling_strategy=strategy).remote(pid)


def _end(pid: int) -> None:
    title = Path(f"/proc/{pid}/cmdline")  # the number may be another process's by now
    if title.is_file() and title.read_bytes().startswith(f"ray::{PLACEMENT_GROUP_CLEANER}".encode()):
        os.kill(pid, signal.SIGKILL)
