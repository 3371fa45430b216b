"""What a search on this machine is given: a clean environment, free ports."""

import os
import socket

from tests.project import ROOT

# What would send a search elsewhere.
FOREIGN = (
    "RAY_ADDRESS",
    "MLFLOW_TRACKING_URI",
    "SELFCON_STUDY_STORAGE",
    "SELFCON_CHECKPOINT_STORAGE",
)


def environment() -> dict[str, str]:
    """Return our environment less what is foreign, with this project importable in every process."""
    kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
    # One thread each: what is trained has the same bits every time.
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def free_port() -> int:
    """Return a port of the loopback interface that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
