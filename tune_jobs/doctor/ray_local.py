"""Ray on this machine: whether it can start a local cluster."""

import socket
from collections.abc import Iterator

from tune_jobs.doctor.finding import Finding, ok

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 1.0


def check() -> Iterator[Finding]:
    """Yield the finding on the import of Ray and on loopback connections; starts no cluster."""
    import ray

    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        socket.create_connection(server.getsockname(), timeout=CONNECT_TIMEOUT_S).close()
    yield ok("Ray", f"{ray.__version__}, starts a local cluster for each search")
