"""Concurrent checks with time limits, in separate processes if needed.

A check that imports heavy libraries or waits for servers is `isolated`: it runs in a separate process, which
can be killed and may crash. The output of libraries does not appear in the report.
"""

import os
import pickle
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selfcon.errors import SelfConError
from tune_jobs.doctor.finding import Finding, fault, first_line

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 45.0  # imports can be slow on a busy machine; waits for servers have shorter limits
SERVER_TIMEOUT_S = 11.0  # database drivers report an error after 10 s
MARGIN_S = 1.0  # to kill a process before its thread is abandoned
PACKAGES_REMEDY = "install it (the packages line lists the installed ones)"


@dataclass(frozen=True)
class Check:
    """Check whose findings are `function(*arguments)`; an exception or a timeout is a fault with `remedy`.

    An `isolated` check and its arguments must be picklable.
    """

    subject: str
    function: Callable[..., Iterable[Finding]]
    arguments: tuple[Any, ...] = ()
    remedy: str = ""
    timeout_s: float = TIMEOUT_S
    isolated: bool = False

    def fault(self, message: str) -> Finding:
        """Return the fault of a check that raised an error or timed out."""
        return fault(self.subject, message, self.remedy)


class RunningCheck:
    """Check in a daemon thread, which does not block the exit of this process."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._findings: list[Finding] = []
        self._deadline_s = time.monotonic() + check.timeout_s + MARGIN_S
        self._thread = threading.Thread(target=self._run, name=check.subject, daemon=True)
        self._thread.start()

    def findings(self) -> list[Finding]:
        """Return the findings when they are available, or a fault after the time limit."""
        self._thread.join(max(0.0, self._deadline_s - time.monotonic()))
        return [_timed_out(self._check)] if self._thread.is_alive() else self._findings

    def _run(self) -> None:
        self._findings = _run_isolated(self._check) if self._check.isolated else run_check(self._check)


def run_check(check: Check) -> list[Finding]:
    """Return the findings of a check in this process, without a time limit."""
    found: list[Finding] = []
    try:
        found.extend(check.function(*check.arguments))
    except SelfConError as error:
        found.append(check.fault(str(error)))
    except ImportError as error:
        found.append(fault(check.subject, f"check failed: {first_line(error)}", PACKAGES_REMEDY))
    except Exception as error:  # the other checks continue
        found.append(check.fault(f"{type(error).__name__}: {first_line(error)}"))
    return found


def _run_isolated(check: Check) -> list[Finding]:
    """Run the check in a separate process; it is sent through a pipe, because it may contain a password."""
    # -P: a file in the current folder may have the name of a library.
    command = [sys.executable, "-P", "-m", __name__]
    paths = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    try:
        done = subprocess.run(
            command,
            input=pickle.dumps(check),
            capture_output=True,
            timeout=check.timeout_s,
            check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        )
    except subprocess.TimeoutExpired:
        return [_timed_out(check)]
    if done.returncode == 0:
        findings: list[Finding] = pickle.loads(done.stdout)
        return findings
    return [check.fault(_exit_reason(done.returncode, done.stderr.decode(errors="replace")))]


def _exit_reason(code: int, errors: str) -> str:
    if code < 0:
        return f"crashed with {signal.Signals(-code).name}"
    lines = errors.strip().splitlines() or ["no error output"]
    return f"exited with code {code}: {lines[-1]}"


def _timed_out(check: Check) -> Finding:
    return check.fault(f"timed out after {check.timeout_s:g} s")


def main() -> None:
    """Run the check on stdin; entry point of the process that `_run_isolated` starts."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keep the output of libraries out of the findings
    check = pickle.load(sys.stdin.buffer)
    out.write(pickle.dumps(run_check(check)))
    out.flush()
    os._exit(0)  # skip exit handlers of libraries, which may wait for a server


if __name__ == "__main__":
    main()
