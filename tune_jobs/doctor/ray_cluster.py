"""Ray cluster at an address: connection, token, and whether its nodes can run this project.

The only trace in the cluster is the entry of a finished job.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune_jobs.cluster.concurrency import trials_at_once, workers_held
from tune_jobs.cluster.requirements import (
    NeededPath,
    check_address,
    check_node_types,
    missing_paths,
    needed_paths,
)
from tune_jobs.cluster.resources import shown_resources
from tune_jobs.doctor.check import ROOT
from tune_jobs.doctor.clocks import clock_notes, clock_offset_s
from tune_jobs.doctor.finding import Finding, Level, fault, note, ok
from tune_jobs.errors import BadInputError
from tune_jobs.provenance import commit_of_source
from tune_jobs.space import SearchSpace

if TYPE_CHECKING:
    from tune_jobs.cluster.nodes import Node

SUBJECT, TOKEN, CAPACITY = "Ray", "Ray token", "capacity"
START_TIMEOUT_S = 45.0  # to start a process on an idle node


@dataclass(frozen=True)
class NodeFacts:
    """Commit of the project, clock and missing paths on a node."""

    commit: str | None
    clock_s: float
    missing: tuple[NeededPath, ...]


@dataclass(frozen=True)
class CheckedNode:
    """Node with its facts, or the error of its task, and the local time before and after."""

    name: str
    resources: Mapping[str, float]
    facts: NodeFacts | str
    before_s: float
    after_s: float


def check(address: str, from_variable: str, space: SearchSpace | None) -> Iterator[Finding]:
    """Yield the findings on the cluster at an address: connection, token, nodes.

    `from_variable` is appended to the address if it comes from an environment variable.
    """
    from tune_jobs.cluster.heartbeat import answers
    from tune_jobs.cluster.ray_internals import head_address

    try:
        check_address(address)
    except BadInputError as error:
        yield fault(SUBJECT, f"{error}{from_variable}", "use the port of the head node, usually 6379")
        return
    where = f"{address}{from_variable}"
    remedy = "start it, or choose another with --address"
    remedy += "; unset RAY_ADDRESS to use this machine" if from_variable else ""
    try:
        gcs_address = head_address(address)
    except ConnectionError:
        yield fault(SUBJECT, f"{where}: no cluster is running on this machine", remedy)
        return
    # Saves the 20 s for which Ray's client would wait. A cluster with TLS does not answer this handshake.
    if os.environ.get("RAY_USE_TLS", "0") != "1" and not answers(gcs_address):
        yield fault(SUBJECT, f"no cluster answers at {where}", remedy)
        return
    token = token_finding(gcs_address)
    yield token
    if token.level != Level.FAULT:
        yield from _attached(address, where, space)


def token_finding(gcs_address: str) -> Finding:
    """Return the finding on the authentication of the cluster whose head is at HOST:PORT."""
    from tune_jobs.cluster.token_auth import REMEDY, refusal_of, warning_of

    refusal = refusal_of(gcs_address)
    if refusal is not None:
        return fault(TOKEN, refusal, REMEDY)
    warning = warning_of(gcs_address)
    if warning is not None:
        message, _, remedy = warning.removeprefix("warning: ").partition("; ")
        return note(TOKEN, message, remedy)
    return ok(TOKEN, f"{gcs_address} accepts the token, and refuses connections without one")


def _attached(address: str, where: str, space: SearchSpace | None) -> Iterator[Finding]:
    from tune_jobs.cluster.nodes import present_nodes
    from tune_jobs.cluster.ray_internals import declared_node_types
    from tune_jobs.cluster.session import ray_session

    # Ray's workers import from the folder of the main script, which must be that of the launcher.
    sys.argv[0] = str(ROOT / "launch.py")
    try:
        with ray_session(address, {}, namespace="doctor"):
            yield ok(SUBJECT, f"the cluster at {where} answers, with the same Ray version {_ray_version()}")
            nodes = present_nodes()
            yield from node_findings(check_nodes(nodes, space), commit=commit_of_source())
            if space is not None:
                yield capacity(space, [node.resources for node in nodes], declared_node_types())
    except RuntimeError as error:
        words = " ".join(str(error).split())
        if "ersion mismatch" not in words:
            raise
        yield fault(
            SUBJECT,
            f"the cluster at {where}: {words}",
            "install the same versions on the cluster and on this machine",
        )


def _ray_version() -> str:
    """Local version of Ray; it connects only to clusters with the same version."""
    import ray

    return str(ray.__version__)


def capacity(
    space: SearchSpace, nodes: Sequence[Mapping[str, float]], declared: Sequence[Mapping[str, float]]
) -> Finding:
    """Return the finding on how many trials fit now; `declared` are the nodes that an autoscaler may add."""
    try:
        check_node_types(space, [*nodes, *declared])
    except BadInputError as error:
        return fault(CAPACITY, str(error), "request smaller workers with --set, or add larger nodes")
    fit = trials_at_once(nodes, space.trial, limit=space.search.max_concurrent)
    if fit.count:
        return ok(CAPACITY, f"{fit.count} at once: {fit.arithmetic}")
    return note(CAPACITY, f"none now: {fit.arithmetic}", "a search will wait until nodes join")


def check_nodes(nodes: "Sequence[Node]", space: SearchSpace | None) -> list[CheckedNode]:
    """Return the facts of all nodes, collected concurrently.

    Paths are checked only on nodes that fit a worker.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    before_s, deadline_s = time.time(), time.monotonic() + START_TIMEOUT_S
    tasks = [
        ray.remote(local_facts).options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(_paths(node, space))
        for node in nodes
    ]  # fmt: skip
    checked = []
    for node, task in zip(nodes, tasks, strict=True):
        facts: NodeFacts | str
        try:
            facts = ray.get(task, timeout=max(0.0, deadline_s - time.monotonic()))
        except RayError as error:
            facts = str(error).strip().splitlines()[-1]
        checked.append(CheckedNode(node.name, node.resources, facts, before_s, time.time()))
    return checked


def _paths(node: "Node", space: SearchSpace | None) -> list[NeededPath]:
    if space is None or not workers_held([node.resources], space.trial):
        return []
    return needed_paths(space)


def local_facts(paths: Sequence[NeededPath]) -> NodeFacts:
    """Return the facts of the local node; runs as a Ray task."""
    missing = tuple(missing_paths(paths))
    return NodeFacts(commit_of_source(), time.time(), missing)


def node_findings(nodes: Sequence[CheckedNode], *, commit: str | None) -> Iterator[Finding]:
    """Yield one finding for all ok nodes, and the findings on each other node.

    `commit` is that of the launcher.
    """
    good = []
    for node in nodes:
        found = list(_problems(node, commit))
        yield from found
        good += [] if found else [node]
    if good:
        names = ("CPU", "GPU")
        total = {name: sum(node.resources.get(name, 0.0) for node in good) for name in names}
        number = f"{len(good)} node{'' if len(good) == 1 else 's'}"
        yield ok("Ray nodes", f"{number} with {shown_resources(total)}, can run this project")


def _problems(node: CheckedNode, commit: str | None) -> Iterator[Finding]:
    subject = f"node {node.name}"
    if isinstance(node.facts, str):
        remedy = "install the same version of this project on every node (docs/cluster.md)"
        yield fault(subject, f"cannot run this project: {node.facts}", remedy)
        return
    for path in node.facts.missing:
        message = f"{path.path} is missing ({path.key})"
        yield fault(subject, message, "put it there, or on storage that all nodes share")
    if node.facts.commit != commit:
        message = f"commit {_short(node.facts.commit)} of this project, but the launcher has {_short(commit)}"
        yield note(subject, message, "install the same code on every node")
    offset_s = clock_offset_s(before_s=node.before_s, remote_s=node.facts.clock_s, after_s=node.after_s)
    yield from clock_notes(subject, offset_s)


def _short(commit: str | None) -> str:
    return "unknown" if commit is None else commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
