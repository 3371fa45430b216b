"""The Ray cluster at an address: whether it answers, lets us in, and its nodes can run this project.

To attach to a cluster leaves an entry of a job that ended in its list, and nothing else.
"""

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tune_jobs.cluster.requirements import (
    NeededPath,
    check_address,
    check_node_types,
    missing_paths,
    needed_paths,
)
from tune_jobs.cluster.resources import shown_resources, trials_at_once, workers_held
from tune_jobs.doctor.check import ROOT
from tune_jobs.doctor.clocks import ahead_s, clock_notes
from tune_jobs.doctor.finding import Finding, Level, fault, note, ok
from tune_jobs.errors import BadInputError
from tune_jobs.provenance import commit_of_source
from tune_jobs.space import SearchSpace

if TYPE_CHECKING:
    from tune_jobs.cluster.nodes import Node

WHAT, TOKEN, ROOM = "Ray", "Ray token", "room for trials"
START_TIMEOUT_S = 45.0  # of a process on a node that was idle


@dataclass(frozen=True)
class NodeFacts:
    """What a process on a node says: the commit of the project there, the clock, which paths are missing."""

    commit: str | None
    clock_s: float
    missing: tuple[NeededPath, ...]


@dataclass(frozen=True)
class Looked:
    """A node, what it has, what it said, or why it did not, and between which times of ours."""

    name: str
    resources: Mapping[str, float]
    said: NodeFacts | str
    before_s: float
    after_s: float


def look(address: str, from_variable: str, space: SearchSpace | None) -> Iterator[Finding]:
    """Yield whether the cluster at an address answers, lets us in, and what its nodes say.

    `from_variable` is said behind the address where a variable holds it.
    """
    from tune_jobs.cluster.heartbeat import answers
    from tune_jobs.cluster.ray_internals import head_address

    try:
        check_address(address)
    except BadInputError as error:
        yield fault(WHAT, f"{error}{from_variable}", "the port is that of its head, 6379 most often")
        return
    where = f"{address}{from_variable}"
    remedy = "start it, or --address names another"
    remedy += "; unset RAY_ADDRESS to use this machine" if from_variable else ""
    try:
        gcs_address = head_address(address)
    except ConnectionError:
        yield fault(WHAT, f"no cluster runs on this machine, as {where} says", remedy)
        return
    # Ray with TLS gives no answer to this greeting; Ray's own client would wait for 20 s.
    if os.environ.get("RAY_USE_TLS", "0") != "1" and not answers(gcs_address):
        yield fault(WHAT, f"no cluster answers at {where}", remedy)
        return
    token = token_finding(gcs_address)
    yield token
    if token.level != Level.FAULT:
        yield from _attached(address, where, space)


def token_finding(gcs_address: str) -> Finding:
    """Return whether the cluster whose head is at HOST:PORT lets us in, and others too."""
    from tune_jobs.cluster.token_auth import REMEDY, refusal_of, warning_of

    refusal = refusal_of(gcs_address)
    if refusal is not None:
        return fault(TOKEN, refusal, REMEDY)
    warning = warning_of(gcs_address)
    if warning is not None:
        found, _, how = warning.removeprefix("warning: ").partition("; ")
        return note(TOKEN, found, how)
    return ok(TOKEN, f"{gcs_address} lets us in, and nobody of the network without a token")


def _attached(address: str, where: str, space: SearchSpace | None) -> Iterator[Finding]:
    from tune_jobs.cluster.nodes import present_nodes
    from tune_jobs.cluster.ray_internals import declared_node_types
    from tune_jobs.cluster.session import ray_session

    # Ray tells its processes to import from the folder of the program, which is the launcher's.
    sys.argv[0] = str(ROOT / "launch.py")
    try:
        with ray_session(address, {}, namespace="doctor"):
            yield ok(WHAT, f"the cluster at {where} answers, with Ray {_ray_version()} as here")
            nodes = present_nodes()
            yield from node_findings(look_at(nodes, space), commit=commit_of_source())
            if space is not None:
                yield room(space, [node.resources for node in nodes], declared_node_types())
    except RuntimeError as error:
        words = " ".join(str(error).split())
        if "ersion mismatch" not in words:
            raise
        yield fault(WHAT, f"the cluster at {where}: {words}", "the same versions on both sides")


def _ray_version() -> str:
    """That of Ray here, which is the cluster's: else Ray does not attach to it."""
    import ray

    return str(ray.__version__)


def room(
    space: SearchSpace, nodes: Sequence[Mapping[str, float]], declared: Sequence[Mapping[str, float]]
) -> Finding:
    """Return how many trials of a space fit on nodes now; `declared` are those an autoscaler may add."""
    try:
        check_node_types(space, [*nodes, *declared])
    except BadInputError as error:
        return fault(ROOM, str(error), "smaller workers by --set, or larger nodes")
    fit = trials_at_once(nodes, space.trial)
    if fit.count:
        return ok(ROOM, f"{fit.count} at once: {fit.arithmetic}")
    return note(ROOM, f"none now: {fit.arithmetic}", "a search waits for nodes that join")


def look_at(nodes: "Sequence[Node]", space: SearchSpace | None) -> list[Looked]:
    """Return what a process on each node says, all asked at the same time.

    Data must be there where a worker may be.
    """
    import ray
    from ray.exceptions import RayError
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    before_s, deadline_s = time.time(), time.monotonic() + START_TIMEOUT_S
    asked = [
        ray.remote(facts_here).options(
            num_cpus=0, max_retries=0, scheduling_strategy=NodeAffinitySchedulingStrategy(node.id, soft=False)
        ).remote(_paths(node, space))
        for node in nodes
    ]  # fmt: skip
    looked = []
    for node, answer in zip(nodes, asked, strict=True):
        said: NodeFacts | str
        try:
            said = ray.get(answer, timeout=max(0.0, deadline_s - time.monotonic()))
        except RayError as error:
            said = str(error).strip().splitlines()[-1]
        looked.append(Looked(node.name, node.resources, said, before_s, time.time()))
    return looked


def _paths(node: "Node", space: SearchSpace | None) -> list[NeededPath]:
    if space is None or not workers_held([node.resources], space.trial):
        return []
    return needed_paths(space)


def facts_here(paths: Sequence[NeededPath]) -> NodeFacts:
    """Return the facts of the node this runs on, in a Ray task."""
    missing = tuple(missing_paths(paths))
    return NodeFacts(commit_of_source(), time.time(), missing)


def node_findings(nodes: Sequence[Looked], *, commit: str | None) -> Iterator[Finding]:
    """Yield a line for all nodes that are well, and those of each that is not; `commit` is the launcher's."""
    well = []
    for node in nodes:
        found = list(_of_node(node, commit))
        yield from found
        well += [] if found else [node]
    if well:
        names = ("CPU", "GPU")
        total = {name: sum(node.resources.get(name, 0.0) for node in well) for name in names}
        number = f"{len(well)} node{'' if len(well) == 1 else 's'}"
        yield ok("Ray nodes", f"{number} with {shown_resources(total)}: this project runs there")


def _of_node(node: Looked, commit: str | None) -> Iterator[Finding]:
    what = f"node {node.name}"
    if isinstance(node.said, str):
        remedy = "install this project, of this version, on every node (docs/cluster.md)"
        yield fault(what, f"cannot run this project: {node.said}", remedy)
        return
    for path in node.said.missing:
        found = f"has no {path.path}, which {path.key} names"
        yield fault(what, found, "put it there, or on what all nodes share")
    if node.said.commit != commit:
        found = f"has another commit of this project: {_short(node.said.commit)}, here {_short(commit)}"
        yield note(what, found, "the same code on every node")
    ahead = ahead_s(before_s=node.before_s, theirs_s=node.said.clock_s, after_s=node.after_s)
    yield from clock_notes(what, ahead)


def _short(commit: str | None) -> str:
    return "none known" if commit is None else commit[:10] + ("-dirty" if commit.endswith("-dirty") else "")
