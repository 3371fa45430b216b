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
    look: Callable[..., Any], *arguments: Any, apart: bool, timeout_s: float = 20.0
) -> list[Finding]:
    return RunningCheck(Check("a", look, arguments, "mend it", timeout_s, apart=apart)).findings()


def half() -> Iterator[Finding]:
    yield FINE
    raise StorageError("the disk is full")


def no_such_module() -> Iterator[Finding]:
    raise ImportError("No module named 'x'")
    yield FINE


@pytest.mark.parametrize("apart", [False, True])
def test_a_check_gives_what_it_finds(apart: bool) -> None:
    assert findings_of(list, [FINE, FINE], apart=apart) == [FINE, FINE]


def test_what_was_found_before_an_error_is_told_too() -> None:
    assert findings_of(half, apart=False) == [FINE, fault("a", "the disk is full", "mend it")]


@pytest.mark.parametrize("apart", [False, True])
def test_a_fault_of_a_check_is_one_of_its_findings(apart: bool) -> None:
    (found,) = findings_of(int, "x", apart=apart)
    assert found == fault("a", "ValueError: invalid literal for int() with base 10: 'x'", "mend it")


def test_a_library_that_is_missing_is_named() -> None:
    (found,) = findings_of(no_such_module, apart=False)
    assert found.found == "cannot be looked at: No module named 'x'"
    assert found.remedy.startswith("install it")


@pytest.mark.parametrize("apart", [False, True])
def test_a_check_that_hangs_is_told_as_such(apart: bool) -> None:
    start_s = time.monotonic()
    assert findings_of(time.sleep, 60, apart=apart, timeout_s=0.5) == [
        fault("a", "no answer within 0.5 s", "mend it")
    ]
    assert time.monotonic() - start_s < 10


@pytest.mark.parametrize(
    ("look", "arguments", "found"),
    [
        (os.abort, (), "crashed with SIGABRT"),
        (os._exit, (3,), "ended with code 3: no word of why"),
    ],
)
def test_a_process_that_dies_takes_only_its_check_with_it(
    look: Callable[..., Any], arguments: tuple[Any, ...], found: str
) -> None:
    assert findings_of(look, *arguments, apart=True) == [fault("a", found, "mend it")]


def test_what_libraries_print_is_no_part_of_the_answer() -> None:
    (found,) = findings_of(os.write, 1, b"chatter", apart=True)
    assert found.found == "TypeError: 'int' object is not iterable"


def test_checks_run_beside_each_other() -> None:
    both = threading.Barrier(2)

    def look() -> list[Finding]:
        both.wait(10)
        return [FINE]

    running = [RunningCheck(Check("a", look)) for _ in range(2)]
    assert [check.findings() for check in running] == [[FINE], [FINE]]
