"""MLflow server that can be killed and restarted on the same port."""

import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from .processes import kill, process_tree, survivors
from .surroundings import free_port

READY_TIMEOUT_S = 120.0
EXIT_TIMEOUT_S = 10.0


class MLflowServer:
    """`mlflow server` with a database and artifacts in `folder`, unless others are given.

    The URI of the database may contain a password, so it is passed in the environment.
    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        database: str | None = None,
        artifacts: str | None = None,
    ) -> None:
        self._folder, self._artifacts = folder, artifacts or str(folder / "artifacts")
        uri = database or f"sqlite:///{folder / 'mlflow.db'}"
        self._environment = {**environment, "MLFLOW_BACKEND_STORE_URI": uri}
        self._port = free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def uri(self) -> str:
        """URI of the server, the same after each start."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def is_up(self) -> bool:
        """Whether its process runs; it may not answer yet."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Start the process without waiting until it answers."""
        command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self._port)]
        command += ["--workers", "1", "--artifacts-destination", self._artifacts]
        settings = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
        with (self._folder / "mlflow-server.log").open("ab") as log:
            self._process = subprocess.Popen(
                command, stdout=log, stderr=log, cwd=self._folder, env={**self._environment, **settings}
            )

    def wait_until_ready(self) -> None:
        """Wait until it answers. Raises `RuntimeError` after a timeout."""
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self.is_up and time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"{self.uri}/health", timeout=2):
                    return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        raise RuntimeError(f"no MLflow server at {self.uri}: see {self._folder / 'mlflow-server.log'}")

    def kill(self) -> None:
        """Kill the server and its child processes."""
        if self._process is not None:
            members = process_tree(self._process.pid)
            kill(members)
            self._process.wait()
            survivors(members, timeout_s=EXIT_TIMEOUT_S)
