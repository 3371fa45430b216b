"""Ray cluster on this machine: a head without CPUs, and nodes of one CPU that can be killed."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .processes import Process, kill, process_tree, survivors
from .surroundings import free_port

READY_TIMEOUT_S = 120.0
IDLE_TIMEOUT_S = 60.0
EXIT_TIMEOUT_S = 20.0
# Processes of an idle node, and an actor that Ray Train starts once per cluster.
CLUSTER_PROCESSES = (
    "ray::IDLE",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::_AutoscalingCoordinatorActor",
)
OBJECT_STORE_BYTES = 100_000_000  # little is stored; the default is a third of the memory per node


class LocalCluster:
    """One `ray start --block` per node, whose processes are its descendants.

    `folder` is for Ray's files; its path must be short, because it contains sockets. `before_nodes` is a
    prefix of the commands of the nodes, except the head. `market_types` are labels of the head and the nodes,
    in this order; the rest has no label.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        num_nodes: int,
        before_nodes: tuple[str, ...] = (),
        market_types: Sequence[str] = (),
    ) -> None:
        self.folder, self._environment = folder, environment
        self._num_started, self._before_nodes, self._market_types = 0, before_nodes, market_types
        self._num_nodes, self._names = num_nodes, dict[int, str]()
        self.address = f"127.0.0.1:{free_port()}"
        self._dashboard_port = free_port()
        self._head: subprocess.Popen[bytes] | None = None
        self.nodes: list[subprocess.Popen[bytes]] = []
        self.start()

    @property
    def is_up(self) -> bool:
        """Whether the head runs."""
        return self._head is not None and self._head.poll() is None

    def start(self) -> None:
        """Start the head and the nodes, always at the same address. Raises `RuntimeError`."""
        try:
            self._head = self._start(
                "--head", f"--port={self.address.rpartition(':')[2]}", "--num-cpus=0",
                "--include-dashboard=true", "--dashboard-host=127.0.0.1",
                f"--dashboard-port={self._dashboard_port}", f"--ray-client-server-port={free_port()}",
            )  # fmt: skip
            self._wait_for(1)
            self.nodes = [self._start_node() for _ in range(self._num_nodes)]
            self._wait_for(1 + self._num_nodes)
        except BaseException:
            self.stop()
            raise

    def node_processes(self) -> list[list[Process]]:
        """Return the processes of each node except the head."""
        return [process_tree(node.pid) for node in self.nodes]

    def head(self) -> list[Process]:
        """Return the processes of the head."""
        return [] if self._head is None else process_tree(self._head.pid)

    def processes(self) -> list[Process]:
        """Return the processes of all nodes, the head included."""
        return [*self.head(), *process_tree(*(node.pid for node in self.nodes))]

    def replace(self, index: int) -> None:
        """Kill all processes of a node, and start another node."""
        kill(process_tree(self.nodes[index].pid))
        self.nodes[index].wait()
        self.nodes[index] = self._start_node()

    def drain(self, index: int, *, seconds: int) -> None:
        """Send Ray a preemption notice for a node, as a cloud does; the node runs until then."""
        (node,) = self._alive(name=self._names[self.nodes[index].pid])
        command = [sys.executable, "-m", "ray.scripts.scripts", "drain-node", f"--address={self.address}"]
        command += [f"--node-id={node.node_id}", "--reason=DRAIN_NODE_REASON_PREEMPTION"]
        command += ["--reason-message=preempted", f"--deadline-remaining-seconds={seconds}"]
        subprocess.run(command, check=True, env=self._environment, capture_output=True)

    def kill_head(self) -> None:
        """Kill all processes of the head; its nodes live for a while."""
        kill(self.head())
        assert self._head is not None
        self._head.wait()

    def in_use(self) -> list[str]:
        """Return the placement groups, actors and busy workers that remain after a timeout."""
        deadline = time.monotonic() + IDLE_TIMEOUT_S
        while (found := self._in_use()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def stop(self) -> None:
        """Kill all nodes."""
        members = self.processes()
        kill(members)
        for node in (self._head, *self.nodes):
            if node is not None:
                node.wait()
        survivors(members, timeout_s=EXIT_TIMEOUT_S)

    def _in_use(self) -> list[str]:
        from ray.util.state import list_actors, list_placement_groups

        dashboard = f"http://127.0.0.1:{self._dashboard_port}"
        groups = list_placement_groups(dashboard, filters=[("state", "!=", "REMOVED")], limit=1000)
        actors = list_actors(dashboard, filters=[("state", "!=", "DEAD")], limit=1000)
        titles = [process.title for process in self.processes() if process.title.startswith("ray::")]
        return [
            *(f"placement group {group.placement_group_id} ({group.state})" for group in groups),
            *(
                f"actor {a.class_name} ({a.state})"
                for a in actors
                if f"ray::{a.class_name}" not in CLUSTER_PROCESSES
            ),
            *(f"process {title}" for title in titles if not title.startswith(CLUSTER_PROCESSES)),
        ]

    def _start_node(self) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self.address}", "--num-cpus=1")

    def _start(self, *flags: str) -> subprocess.Popen[bytes]:
        # Separate folders and ports, because nodes that start together would use the same ones.
        for market_type in self._market_types[self._num_started : self._num_started + 1]:
            flags = (*flags, f"--labels=ray.io/market-type={market_type}")
        self._num_started += 1
        name = f"node-{self._num_started}"
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        command += [f"--temp-dir={self.folder / str(self._num_started)}", "--dashboard-agent-listen-port=0"]
        command += ["--min-worker-port=0", "--max-worker-port=0", f"--node-name={name}", *flags]
        if "--head" not in flags:
            command = [*self._before_nodes, *command]
        with (self.folder / "nodes.log").open("ab") as log:
            node = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )
        self._names[node.pid] = name
        return node

    def _wait_for(self, num_nodes: int) -> None:
        from ray.util.state.exception import RayStateApiException

        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if len(self._alive()) >= num_nodes:
                    return
            except (RayStateApiException, OSError):
                pass
            time.sleep(0.5)
        raise RuntimeError(f"the Ray cluster did not start: see {self.folder / 'nodes.log'}")

    def _alive(self, *, name: str | None = None) -> list[Any]:
        from ray.util.state import list_nodes

        dashboard = f"http://127.0.0.1:{self._dashboard_port}"
        # Otherwise Ray sometimes reports the filtered dead nodes as truncated output.
        found = list_nodes(dashboard, filters=[("state", "=", "ALIVE")], raise_on_missing_output=False)
        return [node for node in found if name in (None, node.node_name)]
