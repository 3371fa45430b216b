"""Heartbeat of the cluster, checked once a second without Ray's client.

If the head node is lost, calls of Ray block, and after 60 s Ray kills this process. If the local node is
lost, Tune waits forever. Therefore a thread checks both with an HTTP/2 handshake.
"""

import socket
import threading
import time
from collections.abc import Callable, Mapping

from tune_jobs.errors import ClusterLostError

INTERVAL_S = 1.0
ANSWER_TIMEOUT_S = 5.0

# A head node that is busy, paused or being replaced answers again within this time.
SILENCE_S = 20.0
# If the launcher itself was paused, it has missed at most one answer.
MIN_MISSED = 3

# Client preface and empty settings of HTTP/2, the protocol of gRPC (RFC 9113, section 3.4).
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def answers(address: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
    """Return whether a gRPC server answers at HOST:PORT; an open TCP port alone is not enough."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(GREETING)
            return bool(connection.recv(1))
    except OSError:
        return False


class Silence:
    """Time since the last answer of a server."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._num_missed = 0

    def heard(self) -> None:
        """Record an answer."""
        self._since_s, self._num_missed = None, 0

    def missed(self, *, asked_s: float) -> None:
        """Record that a request sent at `asked_s` got no answer."""
        self._since_s = asked_s if self._since_s is None else self._since_s
        self._num_missed += 1

    def is_final(self, now_s: float) -> bool:
        """Return whether the server is considered lost."""
        since_s = now_s if self._since_s is None else self._since_s
        return self._num_missed >= MIN_MISSED and now_s - since_s >= SILENCE_S


class ClusterHeartbeat:
    """Checks servers of a cluster (name to HOST:PORT), and calls `on_lost` from its thread if one is lost.

    A server that never answered, for example Ray with TLS, is not checked.
    """

    def __init__(self, parts: Mapping[str, str], on_lost: Callable[[ClusterLostError], None]) -> None:
        self._parts = {name: address for name, address in parts.items() if answers(address)}
        self._on_lost = on_lost
        self._lost: ClusterLostError | None = None
        self._stopped, self._reported = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster heartbeat", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread."""
        self._stopped.set()

    def await_answer(self) -> None:
        """Return when all servers answer a new request, so that later errors do not come from a lost cluster.

        Raises `ClusterLostError` if the cluster is lost, after `on_lost` has returned.
        """
        while self._lost or not all(answers(address) for address in self._parts.values()):
            if self._reported.wait(INTERVAL_S):
                assert self._lost is not None
                raise self._lost

    def _run(self) -> None:
        silences = {name: Silence() for name in self._parts}
        while not self._stopped.wait(INTERVAL_S):
            for name, address in self._parts.items():
                asked_s = time.monotonic()
                if answers(address):
                    silences[name].heard()
                else:
                    silences[name].missed(asked_s=asked_s)
                if silences[name].is_final(time.monotonic()) and not self._stopped.is_set():
                    self._lose(f"{name} at {address} has not answered for {SILENCE_S:.0f} s")
                    return

    def _lose(self, why: str) -> None:
        self._lost = ClusterLostError(f"the Ray cluster is lost: {why}")
        self._on_lost(self._lost)
        self._reported.set()
