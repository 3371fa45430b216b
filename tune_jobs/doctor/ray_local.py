"""Ray on this machine: whether it is there to start a cluster."""

import socket
from collections.abc import Iterator

from tune_jobs.doctor.finding import Finding, ok

LOOPBACK = "127.0.0.1"
CONNECT_TIMEOUT_S = 1.0


def look() -> Iterator[Finding]:
    """Yield whether Ray can be imported and its parts can talk on this machine; starting it takes 3 s."""
    import ray

    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        socket.create_connection(server.getsockname(), timeout=CONNECT_TIMEOUT_S).close()
    yield ok("Ray", f"{ray.__version__}, starts a cluster on this machine when a search begins")
