"""A Ray cluster of several nodes on this machine: a head without CPUs, and nodes of one CPU that may die."""

import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from .processes import Process, family, kill, survivors
from .surroundings import free_port

READY_TIMEOUT_S = 120.0
IDLE_TIMEOUT_S = 60.0
GONE_TIMEOUT_S = 20.0
# What a node has as long as it is there, and what Ray Train starts once for a cluster and keeps.
OF_THE_CLUSTER = (
    "ray::IDLE",
    "ray::DashboardAgent",
    "ray::RuntimeEnvAgent",
    "ray::_AutoscalingCoordinatorActor",
)
OBJECT_STORE_BYTES = 100_000_000  # hardly used here; Ray would take a third of the memory for each node


class LocalCluster:
    """`ray start --block` for each node: its processes are the descendants of that one.

    `folder` is Ray's; its path must be short, since sockets lie in it. `before_nodes` are the first words of
    the nodes' commands, the head's apart. `market_types` label the head and the nodes, in this order, as far
    as they are given.
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
        self._folder, self._environment = folder, environment
        self._num_started, self._before_nodes, self._market_types = 0, before_nodes, market_types
        self.address = f"127.0.0.1:{free_port()}"
        self._dashboard_port = free_port()
        port = self.address.rpartition(":")[2]
        self._head = self._start(
            "--head", f"--port={port}", "--num-cpus=0",
            "--include-dashboard=true", "--dashboard-host=127.0.0.1",
            f"--dashboard-port={self._dashboard_port}", f"--ray-client-server-port={free_port()}",
        )  # fmt: skip
        self._wait_for(1)
        self.nodes = [self._start_node() for _ in range(num_nodes)]
        self._wait_for(1 + num_nodes)

    def families(self) -> list[list[Process]]:
        """Return the processes of each node that may die."""
        return [family(node.pid) for node in self.nodes]

    def head(self) -> list[Process]:
        """Return the processes of the head."""
        return family(self._head.pid)

    def processes(self) -> list[Process]:
        """Return the processes of all nodes, the head included."""
        return family(self._head.pid, *(node.pid for node in self.nodes))

    def replace(self, index: int) -> None:
        """Kill a node, all its processes at once, and start another one."""
        kill(family(self.nodes[index].pid))
        self.nodes[index].wait()
        self.nodes[index] = self._start_node()

    def in_use(self) -> list[str]:
        """Return the placement groups, actors and busy workers that are there when all should be idle.

        What is on its way out has a minute for that.
        """
        deadline = time.monotonic() + IDLE_TIMEOUT_S
        while (found := self._in_use()) and time.monotonic() < deadline:
            time.sleep(0.5)
        return found

    def stop(self) -> None:
        """End every node."""
        members = self.processes()
        kill(members)
        for node in (self._head, *self.nodes):
            node.wait()
        survivors(members, timeout_s=GONE_TIMEOUT_S)

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
                if f"ray::{a.class_name}" not in OF_THE_CLUSTER
            ),
            *(f"process {title}" for title in titles if not title.startswith(OF_THE_CLUSTER)),
        ]

    def _start_node(self) -> subprocess.Popen[bytes]:
        return self._start(f"--address={self.address}", "--num-cpus=1")

    def _start(self, *flags: str) -> subprocess.Popen[bytes]:
        # A folder and ports of its own for each: nodes that start together would take each other's.
        for market_type in self._market_types[self._num_started : self._num_started + 1]:
            flags = (*flags, f"--labels=ray.io/market-type={market_type}")
        self._num_started += 1
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += ["--node-ip-address=127.0.0.1", f"--object-store-memory={OBJECT_STORE_BYTES}"]
        command += [f"--temp-dir={self._folder / str(self._num_started)}", "--dashboard-agent-listen-port=0"]
        command += ["--min-worker-port=0", "--max-worker-port=0", *flags]
        if "--head" not in flags:
            command = [*self._before_nodes, *command]
        with (self._folder / "nodes.log").open("ab") as log:
            return subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self._environment
            )

    def _wait_for(self, num_nodes: int) -> None:
        from ray.util.state import list_nodes
        from ray.util.state.exception import RayStateApiException

        dashboard = f"http://127.0.0.1:{self._dashboard_port}"
        deadline = time.monotonic() + READY_TIMEOUT_S
        while time.monotonic() < deadline:
            try:
                if len(list_nodes(dashboard, filters=[("state", "=", "ALIVE")])) >= num_nodes:
                    return
            except (RayStateApiException, OSError):
                pass
            time.sleep(0.5)
        raise RuntimeError(f"the Ray cluster did not start: see {self._folder / 'nodes.log'}")
