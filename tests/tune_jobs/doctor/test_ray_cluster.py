"""Findings on a cluster; test_concurrency.py checks a real one."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.cluster.requirements import NeededPath
from tune_jobs.doctor import ray_local
from tune_jobs.doctor.finding import Finding, Level
from tune_jobs.doctor.ray_cluster import (
    CheckedNode,
    NodeFacts,
    capacity,
    check,
    local_facts,
    node_findings,
)
from tune_jobs.space import load_space

COMMIT = "0123456789abcdef"
ROOT = NeededPath("train.data.root", "/data", is_folder=True)


def node(facts: NodeFacts | str, name: str = "n") -> CheckedNode:
    return CheckedNode(name, {"CPU": 2.0, "GPU": 1.0}, facts, before_s=1000.0, after_s=1001.0)


GOOD = NodeFacts(COMMIT, 1000.5, ())


def found(*nodes: CheckedNode) -> list[Finding]:
    return list(node_findings(nodes, commit=COMMIT))


def test_ok_nodes_share_a_line() -> None:
    (finding,) = found(node(GOOD), node(GOOD))
    assert finding.level == Level.OK
    assert finding.message == "2 nodes with 4 CPUs and 2 GPUs, can run this project"


@pytest.mark.parametrize(
    ("facts", "level", "message"),
    [
        ("ModuleNotFoundError: No module named 'selfcon'", Level.FAULT,
         "cannot run this project: ModuleNotFoundError: No module named 'selfcon'"),
        (NodeFacts(COMMIT, 1000.5, (ROOT,)), Level.FAULT, "/data is missing (train.data.root)"),
        (NodeFacts("fedcba9876543210-dirty", 1000.5, ()), Level.NOTE,
         "commit fedcba9876-dirty of this project, but the launcher has 0123456789"),
        (NodeFacts(None, 1000.5, ()), Level.NOTE,
         "commit unknown of this project, but the launcher has 0123456789"),
        (NodeFacts(COMMIT, 1100.0, ()), Level.NOTE, "the clock of node bad is 99 s ahead of this machine's"),
    ],
)  # fmt: skip
def test_other_nodes_have_a_line_each(facts: NodeFacts | str, level: Level, message: str) -> None:
    bad, good = found(node(GOOD), node(facts, "bad"))
    assert (bad.level, bad.message) == (level, message)
    assert good.message.startswith("1 node ")


def test_a_node_reports_missing_paths(tmp_path: Path) -> None:
    existing = NeededPath("train.data.root", str(tmp_path), is_folder=True)
    assert local_facts([existing, ROOT]).missing == (ROOT,)


@pytest.mark.parametrize(
    ("present", "declared", "level"),
    [([1.0, 2.0], [], Level.OK), ([1.0], [4.0], Level.NOTE), ([1.0], [1.0], Level.FAULT)],
)
def test_trials_fit_now_or_later_or_never(
    tmp_path: Path, present: list[float], declared: list[float], level: Level
) -> None:
    (tmp_path / "s.yaml").write_text("space: {seed: {low: 0, high: 9}}\ntrial: {cpus_per_worker: 2}\n")
    nodes, types = ([{"CPU": cpus} for cpus in counts] for counts in (present, declared))
    assert capacity(load_space(tmp_path / "s.yaml"), nodes, types).level == level


def test_an_invalid_address_is_a_fault() -> None:
    (finding,) = check("ray://head:10001", " (RAY_ADDRESS)", None)
    assert finding.message == (
        "--address: expected auto, or HOST:PORT of a Ray cluster, got ray://head:10001 (RAY_ADDRESS)"
    )


def test_an_unreachable_address_is_shown_with_its_variable(free_port: Callable[[], int]) -> None:
    address = f"127.0.0.1:{free_port()}"
    (finding,) = check(address, " (RAY_ADDRESS)", None)
    assert (finding.level, finding.message) == (
        Level.FAULT, f"no cluster answers at {address} (RAY_ADDRESS)"
    )  # fmt: skip
    assert finding.remedy.endswith("; unset RAY_ADDRESS to use this machine")


def test_a_port_that_accepts_but_does_not_answer_is_a_fault() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        (finding,) = check(address, "", None)
    assert finding.message == f"no cluster answers at {address}"
    assert "RAY_ADDRESS" not in finding.remedy


def test_this_machine_can_start_a_cluster() -> None:
    (finding,) = ray_local.check()
    assert finding.level == Level.OK
