"""A clean environment and free ports for a search on this machine."""

import os
import socket

from tests.project import ROOT

# Variables that would change the cluster and the storage of a search.
SEARCH_VARIABLES = (
    "RAY_ADDRESS",
    "MLFLOW_TRACKING_URI",
    "SELFCON_STUDY_STORAGE",
    "SELFCON_CHECKPOINT_STORAGE",
)


def environment() -> dict[str, str]:
    """Return the environment without these variables, with this project importable in every process."""
    kept = {name: value for name, value in os.environ.items() if name not in SEARCH_VARIABLES}
    # One thread, so that trainings are bit-identical.
    return {**kept, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "RAY_USAGE_STATS_ENABLED": "0"}


def free_port() -> int:
    """Return a free port of the loopback interface."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
