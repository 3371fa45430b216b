"""What is said of a cluster; a real one is looked at in test_concurrency.py."""

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.cluster.requirements import NeededPath
from tune_jobs.doctor import ray_local
from tune_jobs.doctor.finding import Finding, Level
from tune_jobs.doctor.ray_cluster import (
    Looked,
    NodeFacts,
    facts_here,
    look,
    node_findings,
    room,
)
from tune_jobs.space import load_space

COMMIT = "0123456789abcdef"
ROOT = NeededPath("train.data.root", "/data", is_folder=True)


def node(said: NodeFacts | str, name: str = "n") -> Looked:
    return Looked(name, {"CPU": 2.0, "GPU": 1.0}, said, before_s=1000.0, after_s=1001.0)


WELL = NodeFacts(COMMIT, 1000.5, ())


def found(*nodes: Looked) -> list[Finding]:
    return list(node_findings(nodes, commit=COMMIT))


def test_nodes_that_are_well_share_a_line() -> None:
    (finding,) = found(node(WELL), node(WELL))
    assert finding.level == Level.OK
    assert finding.found == "2 nodes with 4 CPUs and 2 GPUs: this project runs there"


@pytest.mark.parametrize(
    ("said", "level", "words"),
    [
        ("ModuleNotFoundError: No module named 'selfcon'", Level.FAULT,
         "cannot run this project: ModuleNotFoundError: No module named 'selfcon'"),
        (NodeFacts(COMMIT, 1000.5, (ROOT,)), Level.FAULT, "has no /data, which train.data.root names"),
        (NodeFacts("fedcba9876543210-dirty", 1000.5, ()), Level.NOTE,
         "has another commit of this project: fedcba9876-dirty, here 0123456789"),
        (NodeFacts(None, 1000.5, ()), Level.NOTE,
         "has another commit of this project: none known, here 0123456789"),
        (NodeFacts(COMMIT, 1100.0, ()), Level.NOTE, "that of node bad is 99 s ahead of this machine's"),
    ],
)  # fmt: skip
def test_a_node_that_is_not_has_its_own(said: NodeFacts | str, level: Level, words: str) -> None:
    bad, well = found(node(WELL), node(said, "bad"))
    assert (bad.level, bad.found) == (level, words)
    assert well.found.startswith("1 node ")


def test_a_node_looks_for_what_it_is_asked_for(tmp_path: Path) -> None:
    there = NeededPath("train.data.root", str(tmp_path), is_folder=True)
    assert facts_here([there, ROOT]).missing == (ROOT,)


@pytest.mark.parametrize(
    ("present", "declared", "level"),
    [([1.0, 2.0], [], Level.OK), ([1.0], [4.0], Level.NOTE), ([1.0], [1.0], Level.FAULT)],
)
def test_room_is_now_later_or_never(
    tmp_path: Path, present: list[float], declared: list[float], level: Level
) -> None:
    (tmp_path / "s.yaml").write_text("space: {seed: {low: 0, high: 9}}\ntrial: {cpus_per_worker: 2}\n")
    nodes, types = ([{"CPU": cpus} for cpus in counts] for counts in (present, declared))
    assert room(load_space(tmp_path / "s.yaml"), nodes, types).level == level


def test_an_address_of_another_kind_is_told_at_once() -> None:
    (finding,) = look("ray://head:10001", " (RAY_ADDRESS)", None)
    assert finding.found == (
        "--address: expected auto, or HOST:PORT of a Ray cluster, got ray://head:10001 (RAY_ADDRESS)"
    )


def test_an_address_where_nobody_answers_is_told_with_its_variable(free_port: Callable[[], int]) -> None:
    address = f"127.0.0.1:{free_port()}"
    (finding,) = look(address, " (RAY_ADDRESS)", None)
    assert (finding.level, finding.found) == (
        Level.FAULT, f"no cluster answers at {address} (RAY_ADDRESS)"
    )  # fmt: skip
    assert finding.remedy.endswith("; unset RAY_ADDRESS to use this machine")


def test_a_port_that_accepts_and_stays_silent_is_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        address = f"127.0.0.1:{silent.getsockname()[1]}"
        (finding,) = look(address, "", None)
    assert finding.found == f"no cluster answers at {address}"
    assert "RAY_ADDRESS" not in finding.remedy


def test_this_machine_can_start_a_cluster() -> None:
    (finding,) = ray_local.look()
    assert finding.level == Level.OK
