"""Running a check: with a time limit, beside the others, where it must be in a process of its own.

What imports much or waits for others is `apart`: such a process can be ended, may crash, and what libraries
print there is kept out of the report.
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
TIMEOUT_S = 45.0  # a busy machine takes long to import; who waits for others gives up long before
ANSWER_TIMEOUT_S = 11.0  # of a server: the drivers of databases give up after 10 s, with a reason
MARGIN_S = 1.0  # for a process to be ended, before its thread is given up
PACKAGES_REMEDY = "install it; the line of packages says what is here"


@dataclass(frozen=True)
class Check:
    """`look(*arguments)` gives the findings; what it raises, or that it takes too long, is a fault.

    `remedy` says what helps then. An `apart` one, with its arguments, must be picklable.
    """

    what: str
    look: Callable[..., Iterable[Finding]]
    arguments: tuple[Any, ...] = ()
    remedy: str = ""
    timeout_s: float = TIMEOUT_S
    apart: bool = False

    def fault(self, found: str) -> Finding:
        """Return that this check came to no end of its own."""
        return fault(self.what, found, self.remedy)


class RunningCheck:
    """A check in a thread from now on; one that hangs for ever does not keep this process from ending."""

    def __init__(self, check: Check) -> None:
        self._check = check
        self._findings: list[Finding] = []
        self._deadline_s = time.monotonic() + check.timeout_s + MARGIN_S
        self._thread = threading.Thread(target=self._run, name=check.what, daemon=True)
        self._thread.start()

    def findings(self) -> list[Finding]:
        """Return what was found, as soon as it is known or the time is over."""
        self._thread.join(max(0.0, self._deadline_s - time.monotonic()))
        return [_silence(self._check)] if self._thread.is_alive() else self._findings

    def _run(self) -> None:
        self._findings = _answer_apart(self._check) if self._check.apart else answer(self._check)


def answer(check: Check) -> list[Finding]:
    """Return what a check finds, in this process and for as long as it takes."""
    found: list[Finding] = []
    try:
        found.extend(check.look(*check.arguments))
    except SelfConError as error:
        found.append(check.fault(str(error)))
    except ImportError as error:
        found.append(fault(check.what, f"cannot be looked at: {first_line(error)}", PACKAGES_REMEDY))
    except Exception as error:  # whatever it is, the other checks go on
        found.append(check.fault(f"{type(error).__name__}: {first_line(error)}"))
    return found


def _answer_apart(check: Check) -> list[Finding]:
    """Send the check to a process of its own: through a pipe, since it may hold a password."""
    # Not from the current folder: a file there may have the name of a library.
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
        return [_silence(check)]
    if done.returncode == 0:
        findings: list[Finding] = pickle.loads(done.stdout)
        return findings
    return [check.fault(_how_it_died(done.returncode, done.stderr.decode(errors="replace")))]


def _how_it_died(code: int, errors: str) -> str:
    if code < 0:
        return f"crashed with {signal.Signals(-code).name}"
    lines = errors.strip().splitlines() or ["no word of why"]
    return f"ended with code {code}: {lines[-1]}"


def _silence(check: Check) -> Finding:
    return check.fault(f"no answer within {check.timeout_s:g} s")


def main() -> None:
    """Answer the check that comes in, as the process of its own that `_answer_apart` starts."""
    out = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what libraries print is no part of the answer
    check = pickle.load(sys.stdin.buffer)
    out.write(pickle.dumps(answer(check)))
    out.flush()
    os._exit(0)  # past the farewells of libraries: they may wait for who does not answer


if __name__ == "__main__":
    main()
