"""Connection of a launch to Ray: opened once, checked, and ready when a trial fits."""

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Self

import ray

from tune_jobs.cluster.capacity import Capacity
from tune_jobs.cluster.cleanup import kill_orphaned_actors
from tune_jobs.cluster.concurrency import workers_held
from tune_jobs.cluster.heartbeat import ClusterHeartbeat
from tune_jobs.cluster.nodes import Node, missing_on, monitored_parts, present_nodes
from tune_jobs.cluster.ray_internals import declared_node_types
from tune_jobs.cluster.requirements import check_node_types, needed_paths, refuse_missing
from tune_jobs.cluster.resources import machine_resources
from tune_jobs.cluster.session import ray_session
from tune_jobs.cluster.token_auth import warning_of
from tune_jobs.errors import ClusterLostError
from tune_jobs.space import SearchSpace
from tune_jobs.terminal.interruption import Interruption
from tune_jobs.terminal.streams import Terminal

POLL_S = 0.2  # a signal is handled within this time


class Connection:
    """Ray cluster of a launch: the one at `address`, or a local one if it is None.

    From `open` to `close` its heartbeat is monitored; `on_lost` is called in a thread when it is lost.
    """

    def __init__(
        self,
        space: SearchSpace,
        address: str | None,
        interruption: Interruption,
        *,
        on_lost: Callable[[ClusterLostError], None],
        terminal: Terminal,
    ) -> None:
        self._terminal = terminal
        self._space, self._address, self._interruption = space, address, interruption
        self._on_lost = on_lost
        self._heartbeat: ClusterHeartbeat | None = None
        self._namespace = f"{space.tracking.experiment}/{space.name}"
        self._session = ExitStack()
        self._is_open = False

    def open(self, note: Callable[[str], None]) -> None:
        """Connect if not connected, and return when a trial fits or the search is interrupted.

        `note` is called with what it waits for. With an address, raises `BadInputError` if a worker fits no
        node that the cluster has or may add, or if data are missing on such a node, and `ClusterLostError` if
        no cluster answers.
        """
        if self._is_open:
            return
        session = ray_session(self._address, machine_resources(), namespace=self._namespace)
        self._session.enter_context(session)
        self._is_open = True
        self._interruption.take_over()
        self._heartbeat = ClusterHeartbeat(monitored_parts(), self._on_lost)
        self._session.callback(self._heartbeat.stop)
        self._heartbeat.start()
        if self._address is not None:
            with self.cluster_loss_first():
                self._warn()
                kill_orphaned_actors(self._namespace)
                self._check_and_wait(note)

    @contextmanager
    def cluster_loss_first(self) -> Iterator[None]:
        """Raise errors of the block only if the cluster still answers; otherwise raise `ClusterLostError`."""
        try:
            yield
        except Exception:
            self.await_answer()
            raise

    def await_answer(self) -> None:
        """Return when the cluster answers, or at once if none is connected; see `ClusterHeartbeat`."""
        if self._heartbeat is not None:
            self._heartbeat.await_answer()

    def _warn(self) -> None:
        warning = warning_of(ray.get_runtime_context().gcs_address)
        if warning is not None:
            self._terminal.warn(warning)

    def _check_and_wait(self, note: Callable[[str], None]) -> None:
        nodes = present_nodes()
        check_node_types(self._space, [*(node.resources for node in nodes), *declared_node_types()])
        self._check_paths(nodes)
        capacity = Capacity(self._space.trial, limit="auto", note=note)
        while not (capacity.at_once() or self._interruption.requested):
            time.sleep(POLL_S)
        capacity.close()
        known = {node.id for node in nodes}
        self._check_paths([node for node in present_nodes() if node.id not in known])

    def _check_paths(self, nodes: list[Node]) -> None:
        """Check the data on every node that fits a worker. On nodes that join later, trials check them."""
        paths = needed_paths(self._space)
        for node in nodes if paths else ():
            if workers_held([node.resources], self._space.trial):
                refuse_missing(self._space, missing_on(node, paths), node=node.name)

    def close(self) -> None:
        """Disconnect, and stop a local cluster. No trial may be running."""
        if self._is_open and self._address is not None:
            kill_orphaned_actors(self._namespace)
        self._session.close()
        self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._session.__exit__(kind, error, traceback)
