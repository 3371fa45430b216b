"""Trainings that hang, in every way that is visible inside their process."""

import logging
import threading
import time
from collections.abc import Callable

import pytest

from tune_jobs.execution import watchdog as module
from tune_jobs.execution.watchdog import HungError, Watchdog

TIMEOUT_S = 0.3


@pytest.fixture
def watchdog(monkeypatch: pytest.MonkeyPatch) -> Watchdog:
    monkeypatch.setattr(module, "SECOND_CHECK_S", 0.1)
    monkeypatch.setattr(module, "START_ALLOWANCE_S", 2.0)
    return Watchdog(timeout_s=TIMEOUT_S, name="rank 1")


def test_a_training_with_progress_may_take_longer_than_the_timeout(watchdog: Watchdog) -> None:
    threads: list[str] = []

    def training() -> None:
        for step in range(8):
            time.sleep(TIMEOUT_S / 4)
            watchdog.beat(f"step {step}")
        threads.append(threading.current_thread().name)

    watchdog.run(training)
    assert threads == ["training"]


@pytest.mark.parametrize("error", [ValueError("damaged"), SystemExit(3)])
def test_an_error_of_the_training_is_raised_unchanged(watchdog: Watchdog, error: BaseException) -> None:
    def training() -> None:
        raise error

    with pytest.raises(type(error)) as raised:
        watchdog.run(training)
    assert raised.value is error


def loop_forever(over: threading.Event) -> None:
    while not over.is_set():
        pass


def wait_forever(over: threading.Event) -> None:
    over.wait()


@pytest.mark.parametrize("hang", [loop_forever, wait_forever])
def test_a_training_that_hangs_ends_with_its_location_and_stack(
    watchdog: Watchdog, hang: Callable[[threading.Event], None], caplog: pytest.LogCaptureFixture
) -> None:
    over = threading.Event()

    def training() -> None:
        watchdog.beat("epoch 3, step 17")
        hang(over)

    started_s = time.monotonic()
    with caplog.at_level(logging.ERROR), pytest.raises(HungError) as hung:
        watchdog.run(training)
    over.set()
    assert str(hung.value) == "no progress for 0.3 s, last in epoch 3, step 17, rank 1"
    assert TIMEOUT_S <= time.monotonic() - started_s < 10
    assert caplog.messages[0].startswith(f"{hung.value}\nthread training:\n")
    assert f"in {hang.__name__}" in caplog.messages[0]


def test_a_start_may_take_longer_than_a_step(watchdog: Watchdog) -> None:
    watchdog.run(lambda: time.sleep(2 * TIMEOUT_S))


def test_the_allowance_ends_with_the_start(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "START_ALLOWANCE_S", 20.0)
    over = threading.Event()

    def training() -> None:
        time.sleep(TIMEOUT_S / 2)  # by then the watchdog is waiting
        watchdog.beat("epoch 1, step 1")
        wait_forever(over)

    started_s = time.monotonic()
    with pytest.raises(HungError, match=r"^no progress for 0.3 s, last in epoch 1, step 1, rank 1$"):
        watchdog.run(training)
    over.set()
    assert time.monotonic() - started_s < 10


def test_a_start_that_hangs_is_reported(watchdog: Watchdog) -> None:
    over = threading.Event()
    with pytest.raises(HungError, match=r"^no progress for 2 s, last in its start, rank 1$"):
        watchdog.run(lambda: wait_forever(over))
    over.set()


def test_a_frozen_process_may_resume(watchdog: Watchdog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SECOND_CHECK_S", 5.0)
    resumed = threading.Event()

    def training() -> None:
        watchdog.beat("epoch 1, step 1")
        resumed.wait(TIMEOUT_S + 0.1)  # the time limit passes without a beat
        for _ in range(3):
            watchdog.beat("epoch 1, step 2")
            time.sleep(TIMEOUT_S / 4)

    watchdog.run(training)
