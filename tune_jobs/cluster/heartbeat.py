"""Whether the cluster still answers: asked once a second, past Ray's own client.

Where the cluster's head is gone Ray's calls block, and after 60 s Ray ends this process itself, as if the
fault were ours; where this machine's node is gone Tune waits for ever. So a thread asks both, by the
greeting of the protocol that they speak.
"""

import socket
import threading
import time
from collections.abc import Callable, Mapping

from tune_jobs.errors import ClusterLostError

INTERVAL_S = 1.0
ANSWER_TIMEOUT_S = 5.0

# A head that is busy, paused or being replaced answers again within this time.
SILENCE_S = 20.0
# A launcher that was paused itself has missed one answer at most.
FEWEST_MISSED = 3

# How a client opens HTTP/2, which gRPC speaks: the preface and empty settings (RFC 9113, section 3.4).
GREETING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes([0, 0, 0, 4, 0, 0, 0, 0, 0])


def answers(address: str, *, timeout_s: float = ANSWER_TIMEOUT_S) -> bool:
    """Return whether a gRPC server answers at HOST:PORT; for a stopped one only its system would."""
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout=timeout_s) as connection:
            connection.settimeout(timeout_s)
            connection.sendall(GREETING)
            return bool(connection.recv(1))
    except OSError:
        return False


class Silence:
    """For how long a server has given no answer."""

    def __init__(self) -> None:
        self._since_s: float | None = None
        self._num_missed = 0

    def heard(self) -> None:
        """It has answered."""
        self._since_s, self._num_missed = None, 0

    def missed(self, *, asked_s: float) -> None:
        """It has not answered what was asked at that time."""
        self._since_s = asked_s if self._since_s is None else self._since_s
        self._num_missed += 1

    def is_final(self, now_s: float) -> bool:
        """Return whether no answer is to be expected any more."""
        since_s = now_s if self._since_s is None else self._since_s
        return self._num_missed >= FEWEST_MISSED and now_s - since_s >= SILENCE_S


class ClusterHeartbeat:
    """Asks the parts of a cluster, name to HOST:PORT, and calls `on_lost` from its thread for a silent one.

    A part that speaks no plain gRPC (Ray with TLS) gives no answer from the start and is not asked again.
    """

    def __init__(self, parts: Mapping[str, str], on_lost: Callable[[ClusterLostError], None]) -> None:
        self._parts = {name: address for name, address in parts.items() if answers(address)}
        self._on_lost = on_lost
        self._lost: ClusterLostError | None = None
        self._stopped, self._told = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="cluster heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stopped.set()

    def await_answer(self) -> None:
        """Return once all parts answer, asked now: what goes wrong then is not for want of a cluster.

        Raises `ClusterLostError` when the cluster is lost and `on_lost` has returned.
        """
        while self._lost or not all(answers(address) for address in self._parts.values()):
            if self._told.wait(INTERVAL_S):
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
        self._told.set()
