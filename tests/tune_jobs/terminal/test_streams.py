"""What libraries print goes to a file, and every line of ours to the user."""

import os
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.terminal.streams import Terminal, UserConsole

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]

# Noise in each way that libraries make it, and our lines between; a handler keeps the stream of before.
NOISY = """
import ctypes, logging, os, subprocess, sys, warnings
from pathlib import Path
from tune_jobs.terminal.streams import Terminal, UserConsole

handler = logging.StreamHandler()
terminal = Terminal()
sys.stdout.write("before\\n")
try:
    with terminal.libraries_redirected() as redirect_to:
        print("lost")
        redirect_to(Path("ray.log"))
        console = UserConsole(file=terminal.out, soft_wrap=True)
        console.print("a line")
        print("print")
        warnings.warn("warning")
        logging.getLogger("library").addHandler(handler)
        logging.getLogger("library").error("logger")
        os.write(1, b"descriptor 1\\n")
        os.write(2, b"descriptor 2\\n")
        subprocess.run(["sh", "-c", "echo child; echo child >&2"])
        terminal.tell("told")
        terminal.warn("warned")
        {end}
finally:
    print("after")
    print("after", file=sys.stderr)
"""
KINDS = ("print", "warning", "logger", "descriptor 1", "descriptor 2", "child")


def test_noise_of_every_kind_goes_to_the_file_and_our_lines_to_the_user(
    run_python: PythonRunner, tmp_path: Path
) -> None:
    done = run_python(NOISY.format(end="pass"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "before\na line\ntold\nafter\n")
    assert done.stderr == "warned\nafter\n"
    log = (tmp_path / "ray.log").read_text()
    assert [kind for kind in KINDS if kind not in log] == []
    assert "lost" not in log


@pytest.mark.parametrize("error", ["RuntimeError('ours')", "KeyboardInterrupt"])
def test_the_streams_are_back_before_an_error_is_told(
    run_python: PythonRunner, tmp_path: Path, error: str
) -> None:
    done = run_python(NOISY.format(end=f"raise {error}"), cwd=tmp_path)
    assert done.stdout == "before\na line\ntold\nafter\n"
    assert done.stderr.startswith("warned\nafter\nTraceback ")


def test_what_was_printed_is_added_to_the_file(run_python: PythonRunner, tmp_path: Path) -> None:
    (tmp_path / "ray.log").write_text("of an earlier launch\n")
    run_python(NOISY.format(end="pass"), cwd=tmp_path)
    assert (tmp_path / "ray.log").read_text().startswith("of an earlier launch\nprint\n")


def test_a_terminal_that_does_not_know_its_size_has_the_usual_one() -> None:
    ours, its = os.openpty()  # of 0 x 0 at first, as `script` makes them in a job
    with os.fdopen(ours), os.fdopen(its, "w") as file:
        console = UserConsole(file=file)
        assert console.size == (80, 25)
        termios.tcsetwinsize(its, (40, 100))
        assert console.size == (100, 40)


def test_a_disk_that_noise_fills_does_not_keep_the_streams(run_python: PythonRunner, tmp_path: Path) -> None:
    (tmp_path / "ray.log").symlink_to("/dev/full")
    held_back = "stream = sys.stdout\n" + NOISY.replace('print("print")', 'stream.write("print")')
    done = run_python("import sys\n" + held_back.format(end="pass"), cwd=tmp_path)
    assert done.stderr.startswith("after\nTraceback ")
    assert "No space left on device" in done.stderr


def test_a_stdout_that_is_closed_is_left_alone(run_python: PythonRunner, tmp_path: Path) -> None:
    closed = (
        NOISY.replace("sys.stdout.write", "str").replace("os.write(1", "(1").replace("console.print", "str")
    )
    code = "import subprocess, sys; subprocess.run(['sh', '-c', 'exec \"$0\" -c \"$1\" >&-', *sys.argv[1:]])"
    done = run_python(code, sys.executable, closed.format(end="pass"), cwd=tmp_path)
    assert done.stderr == "warned\nafter\n"


@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_streams_that_a_test_captures_are_the_users(
    capture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    captured = request.getfixturevalue(capture)
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)
    with terminal.libraries_redirected() as redirect_to:
        redirect_to(tmp_path / "ray.log")
        print("noise")
        os.write(1, b"more noise\n")
        print("noise of warnings", file=sys.stderr)
        terminal.tell("told")
        terminal.warn("warned")
    assert (sys.stdout, sys.stderr) == streams
    assert captured.readouterr() == ("told\n", "warned\n")
    assert (tmp_path / "ray.log").read_text() == "noise\nmore noise\nnoise of warnings\n"
