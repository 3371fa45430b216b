"""A search on a real Ray cluster of several nodes that come and go, with token authentication."""

import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from tune_jobs.records import Reason, State, TrialRecord
from tune_jobs.space import load_space
from tune_jobs.study import SearchStudy

ROOT = Path(__file__).parents[2]
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

# A head that holds no worker. Its autoscaler declares nodes of 1 CPU; whoever writes to us adds them.
CLUSTER = """
import sys
import ray
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import ClusterConfig
from ray.experimental.internal_kv import _internal_kv_put

cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
ray.init(cluster.address, log_to_driver=False)
config = ClusterConfig()
group = config.node_group_configs.add(name="small", max_count=4)
group.resources["CPU"] = 1
_internal_kv_put(
    ray._raylet.GCS_AUTOSCALER_CLUSTER_CONFIG_KEY, config.SerializeToString(),
    namespace=ray._raylet.GCS_AUTOSCALER_STATE_NAMESPACE,
)
nodes = []
print(cluster.address, flush=True)
for line in sys.stdin:
    if line == "add\\n":
        nodes.append(cluster.add_node(num_cpus=1))
    else:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("done", flush=True)
ray.shutdown()
cluster.shutdown()
"""

# What Ray Train leaves behind where a controller is killed at the wrong moment, in two namespaces.
LEAVE = """
import sys
import ray

@ray.remote(num_cpus=0)
class PlacementGroupCleaner:
    def is_there(self):
        return True

for namespace in sys.argv[2:]:
    ray.init(sys.argv[1], namespace=namespace, log_to_driver=False)
    ray.get(PlacementGroupCleaner.options(lifetime="detached").remote().is_there.remote())
    ray.shutdown()
"""
LEFT = """
import sys
from ray.util.state import list_actors

filters = [("class_name", "=", "PlacementGroupCleaner"), ("state", "=", "ALIVE")]
print(*[actor.ray_namespace for actor in list_actors(sys.argv[1], filters=filters, detail=True)])
"""


class RayCluster:
    """A cluster in a process of its own, which adds and removes nodes when told to."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str]) -> None:
        self._process, self._environment = process, environment
        self.address = self._answer()

    def add(self) -> None:
        self._ask("add")

    def remove(self) -> None:
        self._ask("remove")

    def run(self, code: str, *arguments: str) -> str:
        """What a program prints that gets the cluster's address and the arguments."""
        command = [sys.executable, "-c", code, self.address, *arguments]
        return subprocess.run(
            command, env=self._environment, capture_output=True, text=True, check=True
        ).stdout.strip()

    def _ask(self, what: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{what}\n")
        self._process.stdin.flush()
        while self._answer() != "done":  # Ray's own remarks come between
            assert self._process.poll() is None

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @contextmanager
    def launched(self, folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
        """A launcher of the space in the folder, killed at the end of the block if it still runs."""
        (folder / "space.yaml").write_text(SPACE)
        command = [sys.executable, str(ROOT / "launch.py"), "--space", "space.yaml"]
        process = subprocess.Popen(
            [*command, "--address", self.address, *more], cwd=folder, env=self._environment,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip
        with process:
            try:
                yield process
            finally:
                process.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[RayCluster]:
    # Not pytest's folder: the paths of Ray's sockets would be too long. Nobody else finds this cluster.
    folder = tempfile.mkdtemp(prefix="ray-")
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "RAY_USAGE_STATS_ENABLED": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", CLUSTER], env=environment | {"RAY_TMPDIR": folder},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    with process:
        yield RayCluster(process, environment)
    shutil.rmtree(folder, ignore_errors=True)


def read_until(process: subprocess.Popen[str], pattern: str) -> str:
    """Read the launcher's lines up to the first that matches; fail with all of them when none does."""
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    pytest.fail(f"no line matches {pattern!r}:\n{''.join(lines)}")


def rest_of(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    text = process.stdout.read()
    process.wait()
    return text


def records(folder: Path) -> list[TrialRecord]:
    space = load_space(folder / "space.yaml")
    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    return SearchStudy(f"sqlite:///{folder}/runs/growing/study.db", space, data_digest=digest).records()


def test_what_never_fits_is_refused_and_nothing_is_written(cluster: RayCluster, tmp_path: Path) -> None:
    with cluster.launched(tmp_path, "--set", "trial.cpus_per_worker=2") as process:
        text = rest_of(process)
    assert process.returncode == 2, text
    assert text == (
        "error: --set trial.cpus_per_worker=2: trial.cpus_per_worker: "
        "expected workers that each fit one node of the cluster, "
        "got 2 CPUs each, for nodes of 0 CPUs, 1 CPU\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_waiting_can_be_interrupted_before_anything_is_written(cluster: RayCluster, tmp_path: Path) -> None:
    with cluster.launched(tmp_path, "--set", "trial.num_workers=2") as process:
        text = read_until(process, "waiting for")
        assert text == "waiting for 2 more workers of 1 CPU: 0 of 2 fit on 1 node\n"
        process.send_signal(signal.SIGTERM)
        text = rest_of(process)
    assert process.returncode == 143, text
    assert f"go on with: python launch.py --space space.yaml --address {cluster.address}" in text
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_trials_follow_the_nodes_that_come_and_go(cluster: RayCluster, tmp_path: Path) -> None:
    with cluster.launched(tmp_path) as process:
        read_until(process, "^waiting for 1 more worker of 1 CPU: 0 of 1 fit on 1 node$")
        assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]
        cluster.add()
        read_until(process, r"^1 trial at once now \(1 CPU / \(1 worker x 1 CPU\) = 1, 2 nodes\)$")
        read_until(process, "trial 0 +epoch 1/")
        cluster.add()
        joined_s = time.monotonic()
        read_until(process, r"^2 trials at once now \(2 CPUs / \(1 worker x 1 CPU\) = 2, 3 nodes\)$")
        read_until(process, "trial 1 +temperature")
        assert time.monotonic() - joined_s < 10
        read_until(process, "trial 1 +epoch 1/")
        cluster.remove()
        text = read_until(process, r"^1 trial at once now \(1 CPU / \(1 worker x 1 CPU\) = 1, 2 nodes\)$")
        text += rest_of(process)
    assert process.returncode == 0, text
    check_attempts(records(tmp_path), num_epochs=20)


def check_attempts(trials: list[TrialRecord], *, num_epochs: int) -> None:
    """The trial on the node that left was lost and went on; nothing else ended early, no epoch is double."""
    assert [trial.state for trial in trials] == [State.COMPLETE] * 3
    ends = [end for trial in trials for end in trial.attempt_ends]
    assert ends
    assert all(end.reason == Reason.WORKER_LOST for end in ends), json.dumps([str(end) for end in ends])
    for trial in trials:
        assert trial.attempts == 1 + len(trial.attempt_ends)
        assert [epoch.epoch for epoch in trial.epochs] == list(range(num_epochs + 1))


def test_data_that_a_node_lacks_is_refused_with_its_name(cluster: RayCluster, tmp_path: Path) -> None:
    cluster.add()
    with cluster.launched(tmp_path, "--set", f"train.data.root={tmp_path}/nowhere") as process:
        text = rest_of(process)
    assert process.returncode == 2, text
    assert (
        "train.data.root: expected a folder that exists on every node that can hold a worker, as on" in text
    )
    assert [path.name for path in tmp_path.iterdir()] == ["space.yaml"]


def test_what_an_earlier_launch_left_in_the_cluster_is_ended(cluster: RayCluster, tmp_path: Path) -> None:
    cluster.run(LEAVE, "growing/growing", "another/search")
    assert sorted(cluster.run(LEFT).split()) == ["another/search", "growing/growing"]
    with cluster.launched(tmp_path, "--set", f"train.data.root={tmp_path}/nowhere") as process:
        assert "expected a folder that exists" in rest_of(process)
    assert cluster.run(LEFT) == "another/search"
