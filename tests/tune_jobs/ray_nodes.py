"""Ray cluster of several nodes on this machine for tests: nodes join, drain, and leave."""

import os
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.chaos.processes import process_tree
from tests.launches import Launch, launched

# The head has no CPUs. The autoscaler declares nodes of 1 CPU; commands on stdin add, drain and remove nodes.
CLUSTER = """
import sys
import time
import ray
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import ClusterConfig, DrainNodeReason
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
    elif line == "drain\\n":
        deadline_ms = time.time_ns() // 1_000_000 + 120_000
        reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
        ray._raylet.GcsClient(address=cluster.address).drain_node(
            nodes[-1].node_id, reason, "preempted", deadline_ms
        )
    else:
        cluster.remove_node(nodes.pop(), allow_graceful=False)
    print("done", flush=True)
ray.shutdown()
cluster.shutdown()
"""


class RayCluster:
    """Cluster in a separate process that adds, drains and removes nodes."""

    def __init__(self, process: subprocess.Popen[str], environment: dict[str, str], space: str) -> None:
        self._process, self.environment, self._space = process, environment, space
        self.address = self._read_line()

    def add(self) -> None:
        """Add a node of 1 CPU."""
        self._send("add")

    def remove(self) -> None:
        """Remove the newest node without a preemption notice."""
        self._send("remove")

    def drain(self) -> None:
        """Drain the newest node, with a deadline in two minutes."""
        self._send("drain")

    def training_workers(self) -> list[int]:
        """Return the process ids of the workers."""
        found = process_tree(self._process.pid)
        return sorted(process.pid for process in found if process.title.startswith("ray::RayTrainWorker"))

    def run(self, code: str, *arguments: str) -> str:
        """Run a program with the address of the cluster and `arguments`; return what it prints."""
        command = [sys.executable, "-c", code, self.address, *arguments]
        done = subprocess.run(command, env=self.environment, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    def _send(self, command: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()
        while self._read_line() != "done":  # Ray prints lines too
            assert self._process.poll() is None

    def _read_line(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()

    @contextmanager
    def launched(self, folder: Path, *flags: str) -> Iterator[Launch]:
        """Start a launcher of the space in the folder; kill it at the end of the block if it still runs."""
        (folder / "space.yaml").write_text(self._space)
        flags = ("--space", "space.yaml", "--address", self.address, *flags)
        with launched(folder, *flags, environment=self.environment) as launch:
            yield launch


@contextmanager
def started_cluster(space: str) -> Iterator[RayCluster]:
    """Run a head without CPUs, with token authentication, for searches of `space`."""
    # Not in pytest's folder, because the paths of Ray's sockets would be too long.
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
        yield RayCluster(process, environment, space)
    shutil.rmtree(folder, ignore_errors=True)
