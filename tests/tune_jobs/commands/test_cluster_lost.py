"""How a launch ends whose main thread waits for ever."""

import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]

# The main thread waits for what never comes; a child holds on too.
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
def test_a_launch_whose_cluster_is_lost_ends_with_one_line_and_without_children(
    run_python: PythonRunner, tmp_path: Path, close: str
) -> None:
    done = run_python(LAUNCH.format(close=close, address=None), cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr == "error: the head is gone; resume with: python launch.py --space space.yaml\n"
    child, closed = done.stdout.split()
    assert closed == "closed"
    title = Path(f"/proc/{child}/cmdline")  # empty for a dead process that nobody has waited for
    assert not (title.is_file() and title.read_bytes())


def test_the_nodes_of_another_cluster_are_left_alone(run_python: PythonRunner, tmp_path: Path) -> None:
    done = run_python(LAUNCH.format(close="pass", address="'host:1'"), cwd=tmp_path)
    assert done.returncode == 4
    assert done.stderr.endswith("--space space.yaml --address host:1\n")
    os.kill(int(done.stdout.split()[0]), signal.SIGKILL)
