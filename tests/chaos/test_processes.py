import os
import subprocess
import sys

from .processes import is_alive, kill, process_tree, survivors

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"


def test_a_process_tree_is_killed_without_other_processes() -> None:
    with start_parent() as parent, start_parent() as sibling:
        members, others, ours = process_tree(parent.pid), process_tree(sibling.pid), process_tree(os.getpid())
        assert len(members) == len(others) == 2
        assert {*members, *others} < set(ours)
        kill(members)
        parent.wait()
        assert survivors(members, timeout_s=10) == []
        assert all(is_alive(process) for process in others)
        kill(others)


def start_parent() -> subprocess.Popen[bytes]:
    """Start a process with a child; both wait for input."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()  # wait until the child runs
    return parent


def test_a_running_process_is_a_survivor() -> None:
    (this,) = [process for process in process_tree(os.getpid()) if process.pid == os.getpid()]
    assert survivors([this], timeout_s=0.1) == [this]
