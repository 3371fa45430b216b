"""What the connected cluster holds: its nodes, the types that an autoscaler may add, the files they see."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune_jobs.cluster.ray_internals import MARKET_TYPE, draining_nodes
from tune_jobs.cluster.requirements import NeededPath, missing_paths
from tune_jobs.errors import BadInputError

LOOK_TIMEOUT_S = 60.0
SPOT = "spot"


@dataclass(frozen=True)
class Node:
    """A node that is alive: its id, its name for people, all that it has, used or not, and its labels."""

    id: str
    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]


def present_nodes() -> list[Node]:
    """Return the nodes that are alive, as the cluster sees them: a dead one may count for some seconds.

    One that is being drained is not among them: nothing new begins there.
    """
    draining = draining_nodes()
    return [
        Node(
            node["NodeID"],
            node["NodeName"] or node["NodeManagerAddress"],
            node["Resources"],
            node["Labels"],
        )
        for node in ray.nodes()
        if node["Alive"] and node["NodeID"] not in draining
    ]


def monitored_parts() -> dict[str, str]:
    """Return what a launch cannot do without, in words, with the HOST:PORT where each part answers."""
    context = ray.get_runtime_context()
    parts = {"its head": context.gcs_address}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            parts["this machine's node"] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return parts


def missing_on(node: Node, paths: Sequence[NeededPath]) -> list[NeededPath]:
    """Return which of the paths are not there for a process on the node, looked at by a Ray task.

    None on a node that has just left. Raises `BadInputError` when no task of this project can run there.
    """
    look = ray.remote(missing_paths).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
    )
    try:
        found: list[NeededPath] = ray.get(look.remote(paths), timeout=LOOK_TIMEOUT_S)
    except TaskUnschedulableError:
        return []
    except RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise BadInputError(f"node {node.name} cannot run this project: {why}") from error
    return found


def trial_selector(nodes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the label selector of a trial's own process, for nodes given by their labels.

    Where some node is spot and another one is not, a node that is not; else any, `{}`.
    """
    is_spot = [labels.get(MARKET_TYPE) == SPOT for labels in nodes]
    return {MARKET_TYPE: f"!{SPOT}"} if any(is_spot) and not all(is_spot) else {}
