import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tune_jobs.doctor.check import Check, RunningCheck
from tune_jobs.doctor.finding import Finding, fault, ok
from tune_jobs.errors import StorageError

FINE = ok("a", "fine")


def findings_of(
    function: Callable[..., Any], *arguments: Any, isolated: bool, timeout_s: float = 20.0
) -> list[Finding]:
    return RunningCheck(Check("a", function, arguments, "fix it", timeout_s, isolated=isolated)).findings()


def fails_halfway() -> Iterator[Finding]:
    yield FINE
    raise StorageError("the disk is full")


def missing_module() -> Iterator[Finding]:
    raise ImportError("No module named 'x'")
    yield FINE


@pytest.mark.parametrize("isolated", [False, True])
def test_a_check_returns_its_findings(isolated: bool) -> None:
    assert findings_of(list, [FINE, FINE], isolated=isolated) == [FINE, FINE]


def test_findings_before_an_error_are_kept() -> None:
    assert findings_of(fails_halfway, isolated=False) == [FINE, fault("a", "the disk is full", "fix it")]


@pytest.mark.parametrize("isolated", [False, True])
def test_an_exception_in_a_check_is_a_fault(isolated: bool) -> None:
    (found,) = findings_of(int, "x", isolated=isolated)
    assert found == fault("a", "ValueError: invalid literal for int() with base 10: 'x'", "fix it")


def test_a_missing_library_is_named() -> None:
    (found,) = findings_of(missing_module, isolated=False)
    assert found.message == "check failed: No module named 'x'"
    assert found.remedy.startswith("install it")


@pytest.mark.parametrize("isolated", [False, True])
def test_a_check_that_hangs_times_out(isolated: bool) -> None:
    start_s = time.monotonic()
    assert findings_of(time.sleep, 60, isolated=isolated, timeout_s=0.5) == [
        fault("a", "timed out after 0.5 s", "fix it")
    ]
    assert time.monotonic() - start_s < 10


@pytest.mark.parametrize(
    ("function", "arguments", "message"),
    [
        (os.abort, (), "crashed with SIGABRT"),
        (os._exit, (3,), "exited with code 3: no error output"),
    ],
)
def test_a_crashed_process_is_a_fault_of_its_check(
    function: Callable[..., Any], arguments: tuple[Any, ...], message: str
) -> None:
    assert findings_of(function, *arguments, isolated=True) == [fault("a", message, "fix it")]


def test_output_of_libraries_is_not_part_of_the_findings() -> None:
    (found,) = findings_of(os.write, 1, b"chatter", isolated=True)
    assert found.message == "TypeError: 'int' object is not iterable"


def test_checks_run_concurrently() -> None:
    both = threading.Barrier(2)

    def function() -> list[Finding]:
        both.wait(10)
        return [FINE]

    running = [RunningCheck(Check("a", function)) for _ in range(2)]
    assert [check.findings() for check in running] == [[FINE], [FINE]]
