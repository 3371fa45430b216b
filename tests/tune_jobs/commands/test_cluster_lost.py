"""Exit of a launcher that loses its Ray cluster while its main thread is blocked."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]

# The main thread blocks forever, and a child process keeps running.
LAUNCH = """
import subprocess, sys, threading, time
from pathlib import Path

import ray
from tune_jobs.errors import ClusterLostError
from tune_jobs.commands.cluster_lost import ClusterLostExit
from tune_jobs.options import LaunchOptions

def close():
    print("closed", flush=True)
    {close}

lost = ClusterLostExit(LaunchOptions(space=Path("space.yaml"), address={address}))
lost.close_first(close)
child = subprocess.Popen(["sleep", "60"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
print(child.pid)
threading.Thread(target=lost.abort, args=(ClusterLostError("the head is gone"),)).start()
threading.Event().wait()
"""


@pytest.mark.parametrize("close", ["pass", "raise RuntimeError('no server')", "time.sleep(60)"])
def test_a_launch_that_loses_its_cluster_exits_with_one_line_and_kills_its_children(
    run_python: PythonRunner, tmp_path: Path, close: str
) -> None:
    done = run_python(LAUNCH.format(close=close, address=None), cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr == "error: the head is gone; resume with: python launch.py --space space.yaml\n"
    child, closed = done.stdout.split()
    assert closed == "closed"
    title = Path(f"/proc/{child}/cmdline")  # empty for a zombie process
    assert not (title.is_file() and title.read_bytes())


def test_processes_of_a_remote_cluster_are_not_killed(run_python: PythonRunner, tmp_path: Path) -> None:
    done = run_python(LAUNCH.format(close="pass", address="'host:1'"), cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.endswith("--space space.yaml --address host:1\n")
    os.kill(int(done.stdout.split()[0]), signal.SIGKILL)
