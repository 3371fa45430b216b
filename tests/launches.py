"""Processes of a search, as the tests start them: their lines as they come, and how they end."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.project import ROOT

# Ray's workers have a low priority by default, and would wait for the tests of other processes.
FULL_PRIORITY = {"RAY_worker_niceness": "0"}


class Launch:
    """A launcher in a process of its own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def read_until(self, pattern: str) -> str:
        """Return the lines up to the first that matches; fail with all of them if none does."""
        assert self.process.stdout is not None
        lines = []
        for line in self.process.stdout:
            lines.append(line)
            if re.search(pattern, line):
                return "".join(lines)
        pytest.fail(f"no line matches {pattern!r}:\n{''.join(lines)}")

    def end(self) -> tuple[int, str]:
        """Wait for the end of the process; return its exit code and the lines that were not read yet."""
        assert self.process.stdout is not None
        text = self.process.stdout.read()
        return self.process.wait(), text


@contextmanager
def launched(folder: Path, *flags: str, environment: Mapping[str, str] | None = None) -> Iterator[Launch]:
    """Run `launch.py` with flags in a folder; it is killed at the end of the block if it still runs."""
    with started([sys.executable, str(ROOT / "launch.py"), *flags], folder, environment) as launch:
        yield launch


@contextmanager
def started(
    command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Launch]:
    """Run a command in a folder; it is killed at the end of the block if it still runs."""
    process = subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        env={**os.environ, "OMP_NUM_THREADS": "1", **FULL_PRIORITY, **(environment or {})},
    )  # fmt: skip
    with process:
        try:
            yield Launch(process)
        finally:
            process.kill()
