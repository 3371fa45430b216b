import os
import secrets
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml
from ray._private.runtime_env.packaging import create_package

from tests.project import ROOT

RUNTIME_ENV = yaml.safe_load((ROOT / "deploy" / "ray-job" / "runtime-env.yaml").read_text())

BIN = Path(sys.executable).parent
READY_TIMEOUT_S = 120.0


@contextmanager
def head_node(environment: dict[str, str], port: int, dashboard_port: int) -> Iterator[str]:
    """A Ray cluster of one node; yields the address of its dashboard."""
    dashboard = f"http://127.0.0.1:{dashboard_port}"
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        command = [str(BIN / "ray"), "start", "--head", "--block", "--num-cpus=1", f"--port={port}"]
        command += [f"--temp-dir={folder}", "--object-store-memory=100000000", "--disable-usage-stats"]
        command += ["--dashboard-host=127.0.0.1", f"--dashboard-port={dashboard_port}"]
        command += ["--dashboard-agent-listen-port=0", "--min-worker-port=0", "--max-worker-port=0"]
        log = Path(folder, "start.log")
        with log.open("wb") as output:
            process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
        try:
            deadline = time.monotonic() + READY_TIMEOUT_S
            while not _is_ready(dashboard, environment["RAY_AUTH_TOKEN"]):
                assert process.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.2)
            yield dashboard
        finally:
            process.terminate()
            process.wait(timeout=60)


def _is_ready(dashboard: str, token: str) -> bool:
    """Whether the jobs API answers."""
    request = urllib.request.Request(f"{dashboard}/api/jobs/", headers={"Authorization": f"Bearer {token}"})
    try:
        with urllib.request.urlopen(request, timeout=5):
            return True
    except OSError:
        return False


@pytest.mark.soak
def test_a_search_submitted_as_a_job_completes(tmp_path: Path, free_port: Callable[[], int]) -> None:
    environment = {
        **os.environ,
        "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}",
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        "MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path}/mlflow.db",
        "OMP_NUM_THREADS": "1",
    }
    with head_node(environment, free_port(), free_port()) as dashboard:
        with pytest.raises(urllib.error.HTTPError, match="401"):
            urllib.request.urlopen(f"{dashboard}/api/jobs/", timeout=5)
        submitted = subprocess.run(
            [
                *(BIN / "ray", "job", "submit", "--address", dashboard),
                *("--runtime-env", "deploy/ray-job/runtime-env.yaml", "--"),
                *("python", "launch.py", "--space", "search_spaces/smoke.yaml"),
                *("--output", tmp_path / "runs", "--set", "search.num_trials=1"),
            ],
            cwd=ROOT, env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
    text = submitted.stdout + submitted.stderr
    assert submitted.returncode == 0, text
    assert "smoke: 1 trials, 1 at once (1 CPU / (1 worker x 1 CPU) = 1)" in text
    assert "complete: 1: trial 0" in text, text
    assert "warning: the Ray cluster" not in text
    assert (tmp_path / "runs" / "smoke" / "study.db").is_file()


def test_the_package_of_a_job_contains_only_the_code_and_the_search_spaces(tmp_path: Path) -> None:
    package = tmp_path / "package.zip"
    create_package(str(ROOT), package, include_gitignore=True, excludes=RUNTIME_ENV["excludes"])
    names = zipfile.ZipFile(package).namelist()
    assert {name.partition("/")[0] for name in names} == {
        "launch.py", "search_spaces", "selfcon", "tune_jobs",
    }  # fmt: skip
    for name in ("search_spaces/smoke.yaml", "selfcon/data/imagenet100.txt", "tune_jobs/space/schema.py"):
        assert name in names
    assert not [name for name in names if "__pycache__" in name]


def test_the_runtime_environment_has_no_environment_variables() -> None:
    assert RUNTIME_ENV.keys() == {"working_dir", "excludes"}
