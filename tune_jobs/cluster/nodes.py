"""Nodes of the connected cluster, and the files on them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ray
from ray.exceptions import RayError, TaskUnschedulableError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from tune_jobs.cluster.ray_internals import MARKET_TYPE, draining_nodes
from tune_jobs.cluster.requirements import NeededPath, missing_paths
from tune_jobs.errors import BadInputError

CHECK_TIMEOUT_S = 60.0
SPOT = "spot"


@dataclass(frozen=True)
class Node:
    """Live node: its id, its display name, its total resources, and its labels."""

    id: str
    name: str
    resources: Mapping[str, float]
    labels: Mapping[str, str]


def present_nodes() -> list[Node]:
    """Return the live nodes. A dead one may still be included for some seconds.

    Draining nodes are excluded, because nothing is scheduled there.
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
    """Return the servers that a launch depends on: display name to HOST:PORT."""
    context = ray.get_runtime_context()
    parts = {"its head": context.gcs_address}
    for node in ray.nodes():
        if node["NodeID"] == context.get_node_id():
            parts["this machine's node"] = f"{node['NodeManagerAddress']}:{node['NodeManagerPort']}"
    return parts


def missing_on(node: Node, paths: Sequence[NeededPath]) -> list[NeededPath]:
    """Return the paths that do not exist on a node, checked by a Ray task.

    Empty if the node has just left. Raises `BadInputError` if tasks of this project cannot run there.
    """
    check = ray.remote(missing_paths).options(
        num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
    )
    try:
        missing: list[NeededPath] = ray.get(check.remote(paths), timeout=CHECK_TIMEOUT_S)
    except TaskUnschedulableError:
        return []
    except RayError as error:
        why = str(error).strip().splitlines()[-1]
        raise BadInputError(f"node {node.name} cannot run this project: {why}") from error
    return missing


def trial_selector(nodes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the label selector for trial actors, given the labels of all nodes.

    If there are spot and other nodes, it excludes spot nodes; otherwise it is empty.
    """
    is_spot = [labels.get(MARKET_TYPE) == SPOT for labels in nodes]
    return {MARKET_TYPE: f"!{SPOT}"} if any(is_spot) and not all(is_spot) else {}
