"""A search on a real Ray cluster with token authentication, whose nodes join and leave."""

import json
import re
import secrets
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from tests.tune_jobs import ray_nodes
from tune_jobs.space import load_space
from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.search_study import SearchStudy

RayCluster = Any  # of ray_nodes.py

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]

SPACE = """
name: growing
train:
  data: {dataset: digits, image_size: 16, augmentation: none}
  model: {width: 8, exit_depth: fc}
  optim: {epochs: 20, global_batch_size: 64, learning_rate: 0.05}
space: {loss.temperature: {low: 0.05, high: 0.5}}
search: {num_trials: 3, sampler: random}
"""

# Orphaned clean-up actors, as Ray Train leaves them if a controller is killed early, in two namespaces.
CREATE_ORPHANS = """
import sys
import ray

@ray.remote(num_cpus=0)
class PlacementGroupCleaner:
    def ready(self):
        return True

for namespace in sys.argv[2:]:
    ray.init(sys.argv[1], namespace=namespace, log_to_driver=False)
    ray.get(PlacementGroupCleaner.options(lifetime="detached").remote().ready.remote())
    ray.shutdown()
"""
LIST_ORPHANS = """
import sys
from ray.util.state import list_actors

filters = [("class_name", "=", "PlacementGroupCleaner"), ("state", "=", "ALIVE")]
print(*[actor.ray_namespace for actor in list_actors(sys.argv[1], filters=filters, detail=True)])
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    with ray_nodes.started_cluster(SPACE) as started:
        yield started


def records(folder: Path) -> list[TrialRecord]:
    space = load_space(folder / "space.yaml")
    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    return SearchStudy(f"sqlite:///{folder}/runs/growing/study.db", space, data_digest=digest).records()


def test_the_doctor_checks_every_node_and_reports_a_wrong_token(
    cluster: RayCluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with cluster.launched(tmp_path, "--doctor") as launch:
        code, text = launch.end()
    assert code == 0, text
    assert re.search("^ok     Ray nodes +1 node with 0 CPUs, can run this project$", text, re.MULTILINE)
    assert re.search("^note   capacity +none now: 0 CPUs / ", text, re.MULTILINE)
    monkeypatch.setitem(cluster.environment, "RAY_AUTH_TOKEN", secrets.token_hex(32))
    with cluster.launched(tmp_path, "--doctor") as launch:
        code, text = launch.end()
    assert code == 1, text
    assert re.search("^fault  Ray token +.* rejects the token  -> RAY_AUTH_MODE=token", text, re.MULTILINE)
    with cluster.launched(tmp_path) as launch:
        code, text = launch.end()
    assert code == 2, text
    assert re.fullmatch(r"error: the Ray cluster: expected RAY_AUTH.*, got: \S+ rejects the token\n", text)
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_workers_that_fit_no_node_are_refused_and_nothing_is_written(
    cluster: RayCluster, tmp_path: Path
) -> None:
    with cluster.launched(tmp_path, "--set", "trial.cpus_per_worker=2") as launch:
        code, text = launch.end()
    assert code == 2, text
    assert text == (
        "error: --set trial.cpus_per_worker=2: trial.cpus_per_worker: "
        "expected workers that each fit one node of the cluster, "
        "got 2 CPUs each, for nodes of 0 CPUs, 1 CPU\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_waiting_can_be_interrupted_before_anything_is_written(cluster: RayCluster, tmp_path: Path) -> None:
    with cluster.launched(tmp_path, "--set", "trial.num_workers=2") as launch:
        text = launch.read_until("waiting for")
        assert text == "waiting for 2 more workers of 1 CPU: 0 of 2 fit on 1 node\n"
        launch.process.send_signal(signal.SIGTERM)
        code, text = launch.end()
    assert code == 143, text
    assert f"resume with: python launch.py --space space.yaml --address {cluster.address}" in text
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


@pytest.mark.soak
def test_the_number_of_trials_follows_the_nodes(cluster: RayCluster, tmp_path: Path) -> None:
    with cluster.launched(tmp_path) as launch:
        launch.read_until("^waiting for 1 more worker of 1 CPU: 0 of 1 fit on 1 node$")
        assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]
        cluster.add()
        launch.read_until(r"^1 trial at once now \(1 CPU / \(1 worker x 1 CPU\) = 1, 2 nodes\)$")
        launch.read_until("trial 0 +epoch 1/")
        cluster.add()
        joined_s = time.monotonic()
        launch.read_until(r"^2 trials at once now \(2 CPUs / \(1 worker x 1 CPU\) = 2, 3 nodes\)$")
        launch.read_until("trial 1 +temperature")
        assert time.monotonic() - joined_s < 10
        launch.read_until("trial 1 +epoch 1/")
        cluster.remove()
        text = launch.read_until(r"^1 trial at once now \(1 CPU / \(1 worker x 1 CPU\) = 1, 2 nodes\)$")
        code, text = launch.end()
    assert code == 0, text
    check_attempts(records(tmp_path), num_epochs=20)


def check_attempts(trials: list[TrialRecord], *, num_epochs: int) -> None:
    """Only attempts on the lost node ended early, their trial resumed, and no epoch is reported twice."""
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3
    ends = [end for trial in trials for end in trial.attempt_ends]
    assert ends
    assert all(end.reason == Reason.WORKER_LOST for end in ends), json.dumps([str(end) for end in ends])
    for trial in trials:
        assert trial.attempts == 1 + len(trial.attempt_ends)
        assert [epoch.epoch for epoch in trial.epochs] == list(range(num_epochs + 1))


def test_data_missing_on_a_node_is_refused_with_its_name(cluster: RayCluster, tmp_path: Path) -> None:
    cluster.add()
    with cluster.launched(tmp_path, "--set", f"train.data.root={tmp_path}/nowhere") as launch:
        code, text = launch.end()
    assert code == 2, text
    assert (
        "train.data.root: expected a folder that exists on every node that can run a worker (missing on"
        in text
    )
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_orphaned_actors_of_an_earlier_launch_are_killed(cluster: RayCluster, tmp_path: Path) -> None:
    cluster.run(CREATE_ORPHANS, "growing/growing", "another/search")
    assert sorted(cluster.run(LIST_ORPHANS).split()) == ["another/search", "growing/growing"]
    with cluster.launched(tmp_path, "--set", f"train.data.root={tmp_path}/nowhere") as launch:
        assert "expected a folder that exists" in launch.end()[1]
    assert cluster.run(LIST_ORPHANS) == "another/search"
