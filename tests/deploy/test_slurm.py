"""The Slurm script, with stubs for `srun` and `scontrol`.

The stubs run their arguments on this machine; Ray, its nodes and the search are real.
"""

import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.project import ROOT

SCRIPT = ROOT / "deploy" / "slurm" / "search.sbatch"
SRUN = """\
#!/usr/bin/env bash
echo "srun $*" >>"$CALLS"
while [[ $1 == -* ]]; do shift; done
exec "$@"
"""
SCONTROL = """\
#!/usr/bin/env bash
echo "scontrol $*" >>"$CALLS"
if [[ $1 == show ]]; then printf 'node1\\nnode2\\n'; fi
"""
SEARCH = ("--space", "search_spaces/smoke.yaml", "--set", "search.num_trials=1")
TIMEOUT_S = 120.0


class Job:
    """A job of two nodes with one CPU each, in a folder with links to the project."""

    def __init__(self, folder: Path) -> None:
        self.id = str(os.getpid())
        self.project, self.calls = folder / "project", folder / "calls"
        self.temporary = Path(f"/tmp/ray-{self.id}")
        programs = folder / "bin"
        for path in (self.project, programs):
            path.mkdir()
        for name in ("launch.py", "search_spaces"):
            (self.project / name).symlink_to(ROOT / name)
        for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
            (programs / name).write_text(text)
            (programs / name).chmod(0o755)
        self._environment = os.environ | {
            "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
            "CALLS": str(self.calls),
            "SLURM_JOB_ID": self.id,
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_NUM_NODES": "2",
            "SLURM_CPUS_PER_TASK": "1",
            "RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S": "0",
        }
        self._log = folder / "log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the job, or restart it as Slurm does after a requeue."""
        self._log.unlink(missing_ok=True)
        self.calls.unlink(missing_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                ["bash", str(SCRIPT), *SEARCH],
                cwd=self.project, env=self._environment, stdout=log, stderr=log,
            )  # fmt: skip

    def wait_for(self, pattern: str) -> str:
        """Wait for a match in the output and return it."""
        assert self._process is not None
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline and self._process.poll() is None:
            if found := re.search(pattern, self.printed()):
                return found[0]
            time.sleep(0.1)
        raise AssertionError(f"no {pattern!r} in:\n{self.printed()}")

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the script only, as `--signal=B:...` does."""
        assert self._process is not None
        self._process.send_signal(number)

    def exit_code(self) -> int:
        """Wait for the end of the job and return its exit code."""
        assert self._process is not None
        return self._process.wait(timeout=TIMEOUT_S)

    def printed(self) -> str:
        return self._log.read_text()

    def processes(self) -> str:
        """Return the processes of the Ray cluster, one per line."""
        listing = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
        return "\n".join(line for line in listing.splitlines() if str(self.temporary) in line)

    def end(self) -> None:
        """Stop a job that a failed test left running."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            self._process.wait(timeout=TIMEOUT_S)
        shutil.rmtree(self.temporary, ignore_errors=True)


@pytest.fixture
def job(tmp_path: Path) -> Iterator[Job]:
    job = Job(tmp_path)
    yield job
    job.end()


def test_the_script_passes_shellcheck(require_program: Callable[[str], str]) -> None:
    subprocess.run(["bash", "-n", str(SCRIPT)], check=True)
    subprocess.run([require_program("shellcheck"), str(SCRIPT)], check=True)


def test_the_job_can_be_requeued_and_gets_a_signal_before_the_time_limit() -> None:
    options = re.findall(r"^#SBATCH (\S+)", SCRIPT.read_text(), re.MULTILINE)
    assert {"--requeue", "--signal=B:USR1@120", "--open-mode=append", "--ntasks-per-node=1"} <= set(options)


@pytest.mark.cluster
@pytest.mark.soak
def test_a_job_at_its_time_limit_is_requeued_and_resumes(job: Job) -> None:
    token = _interrupt(job, signal.SIGUSR1)
    assert job.calls.read_text().splitlines()[-1] == f"scontrol requeue {job.id}"

    job.start()
    assert job.exit_code() == 0
    assert re.search(r"^winner: trial 0:", job.printed(), re.MULTILINE)
    assert "requeue" not in job.calls.read_text()
    _check_cleaned_up(job, token)


@pytest.mark.cluster
@pytest.mark.soak
def test_a_terminated_job_stops_its_processes(job: Job) -> None:
    _interrupt(job, signal.SIGTERM)
    assert "requeue" not in job.calls.read_text()


def _interrupt(job: Job, number: signal.Signals) -> str:
    """Start the job and interrupt its first epoch; return the token of its cluster."""
    job.start()
    job.wait_for(r"2 (trials )?at once .*2 nodes\)")
    token = _token(job.project)
    assert _status_without_token(job.calls.read_text()) == 401
    job.wait_for(r"trial 0 +epoch 0/2")
    job.signal(number)
    assert job.exit_code() == 143
    _check_cleaned_up(job, token)
    return token


def _token(project: Path) -> str:
    """The token of the running job, which no other user can read."""
    (folder,) = project.glob(".search-*")
    assert (folder.stat().st_mode & 0o777, (folder / "token").stat().st_mode & 0o777) == (0o700, 0o600)
    return (folder / "token").read_text()


def _status_without_token(calls: str) -> int:
    found = re.search(r"--dashboard-host=(\S+) --dashboard-port=(\d+)", calls)
    assert found
    with pytest.raises(urllib.error.HTTPError) as raised:
        urllib.request.urlopen(f"http://{found[1]}:{found[2]}/api/jobs/", timeout=20).close()
    raised.value.close()
    return raised.value.code


def _check_cleaned_up(job: Job, token: str) -> None:
    assert job.processes() == ""
    assert list(job.project.glob(".search-*")) == []
    assert token not in job.printed()
    assert job.temporary.stat().st_mode & 0o777 == 0o700
