import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tune_jobs.errors import AlreadyRunningError
from tune_jobs.study.database.lock import LauncherLock

HOLD = """
import sys, pathlib
from tune_jobs.study.database.lock import LauncherLock
lock = LauncherLock(pathlib.Path(sys.argv[1]))
print("held", flush=True)
input()
"""


def test_a_second_launcher_is_refused_until_the_first_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "launcher.lock"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)
        expected = f"another launcher runs this search: process {holder.pid} on .*, started .*{path}"
        with pytest.raises(AlreadyRunningError, match=expected):
            LauncherLock(path)
        holder.kill()
    LauncherLock(path).release()


def test_a_released_lock_can_be_acquired_again_in_the_same_process(tmp_path: Path) -> None:
    path = tmp_path / "launcher.lock"
    LauncherLock(path).release()
    lock = LauncherLock(path)
    assert f'"process": {os.getpid()}' in path.read_text()
    lock.release()
