"""Output of libraries goes to a file, and every line of the program to the user."""

import os
import subprocess
import sys
import termios
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.terminal.streams import Terminal, UserConsole

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]

# Output in every way that libraries print, mixed with lines of the program; a handler keeps the old stream.
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
        terminal.info("info")
        terminal.warn("warned")
        {end}
finally:
    print("after")
    print("after", file=sys.stderr)
"""
SOURCES = ("print", "warning", "logger", "descriptor 1", "descriptor 2", "child")


def test_library_output_goes_to_the_file_and_program_lines_to_the_user(
    run_python: PythonRunner, tmp_path: Path
) -> None:
    done = run_python(NOISY.format(end="pass"), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "before\na line\ninfo\nafter\n")
    assert done.stderr == "warned\nafter\n"
    log = (tmp_path / "ray.log").read_text()
    assert [source for source in SOURCES if source not in log] == []
    assert "lost" not in log


@pytest.mark.parametrize("error", ["RuntimeError('internal')", "KeyboardInterrupt"])
def test_the_streams_are_restored_before_an_error_is_printed(
    run_python: PythonRunner, tmp_path: Path, error: str
) -> None:
    done = run_python(NOISY.format(end=f"raise {error}"), cwd=tmp_path)
    assert done.stdout == "before\na line\ninfo\nafter\n"
    assert done.stderr.startswith("warned\nafter\nTraceback ")


def test_output_is_appended_to_the_file(run_python: PythonRunner, tmp_path: Path) -> None:
    (tmp_path / "ray.log").write_text("of an earlier launch\n")
    run_python(NOISY.format(end="pass"), cwd=tmp_path)
    assert (tmp_path / "ray.log").read_text().startswith("of an earlier launch\nprint\n")


def test_a_terminal_without_a_size_gets_the_default_size() -> None:
    controller, terminal = os.openpty()  # 0 x 0 at first, as `script` creates it without a terminal
    with os.fdopen(controller), os.fdopen(terminal, "w") as file:
        console = UserConsole(file=file)
        assert console.size == (80, 25)
        termios.tcsetwinsize(terminal, (40, 100))
        assert console.size == (100, 40)


def test_the_streams_are_restored_if_library_output_fills_the_disk(
    run_python: PythonRunner, tmp_path: Path
) -> None:
    (tmp_path / "ray.log").symlink_to("/dev/full")
    buffered = "stream = sys.stdout\n" + NOISY.replace('print("print")', 'stream.write("print")')
    done = run_python("import sys\n" + buffered.format(end="pass"), cwd=tmp_path)
    assert done.stderr.startswith("after\nTraceback ")
    assert "No space left on device" in done.stderr


def test_a_closed_stdout_is_not_redirected(run_python: PythonRunner, tmp_path: Path) -> None:
    closed = (
        NOISY.replace("sys.stdout.write", "str").replace("os.write(1", "(1").replace("console.print", "str")
    )
    code = "import subprocess, sys; subprocess.run(['sh', '-c', 'exec \"$0\" -c \"$1\" >&-', *sys.argv[1:]])"
    done = run_python(code, sys.executable, closed.format(end="pass"), cwd=tmp_path)
    assert done.stderr == "warned\nafter\n"


@pytest.mark.parametrize("capture", ["capsys", "capfd"])
def test_streams_captured_by_pytest_count_as_the_users(
    capture: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    captured = request.getfixturevalue(capture)
    terminal, streams = Terminal(), (sys.stdout, sys.stderr)
    with terminal.libraries_redirected() as redirect_to:
        redirect_to(tmp_path / "ray.log")
        print("noise")
        os.write(1, b"more noise\n")
        print("noise of warnings", file=sys.stderr)
        terminal.info("info")
        terminal.warn("warned")
    assert (sys.stdout, sys.stderr) == streams
    assert captured.readouterr() == ("info\n", "warned\n")
    assert (tmp_path / "ray.log").read_text() == "noise\nmore noise\nnoise of warnings\n"
