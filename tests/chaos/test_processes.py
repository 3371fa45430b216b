import os
import subprocess
import sys

from .processes import family, is_alive, kill, survivors

PARENT = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'print(1, flush=True); input()'])"


def test_a_family_is_found_by_descent_and_killed_without_touching_others() -> None:
    with start_parent() as parent, start_parent() as sibling:
        members, others, ours = family(parent.pid), family(sibling.pid), family(os.getpid())
        assert len(members) == len(others) == 2
        assert {*members, *others} < set(ours)
        kill(members)
        parent.wait()
        assert survivors(members, timeout_s=10) == []
        assert all(is_alive(process) for process in others)
        kill(others)


def start_parent() -> subprocess.Popen[bytes]:
    """A process with a child, both waiting for a line."""
    parent = subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    parent.stdout.readline()  # the child is there
    return parent


def test_what_goes_on_is_a_survivor() -> None:
    (this,) = [process for process in family(os.getpid()) if process.pid == os.getpid()]
    assert survivors([this], timeout_s=0.1) == [this]
