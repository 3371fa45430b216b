import logging
import threading
import time
from collections.abc import Callable

import pytest

from tune_jobs.cluster import draining as module
from tune_jobs.cluster.draining import drain_notice


@pytest.fixture(autouse=True)
def frequent_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "POLL_S", 0.01)


def wait_until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def poll_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "drain notice"]


def test_only_draining_nodes_of_the_attempt_count(monkeypatch: pytest.MonkeyPatch) -> None:
    draining = {"other"}
    monkeypatch.setattr(module, "draining_nodes", lambda: frozenset(draining))
    with drain_notice(frozenset({"mine", "its trial's"})) as is_draining:
        assert not wait_until(is_draining, timeout_s=0.2)
        draining.add("its trial's")
        assert wait_until(is_draining)
        draining.clear()
        assert is_draining()


def test_a_cluster_that_does_not_answer_is_polled_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([ConnectionError("no GCS"), ConnectionError("no GCS")])

    def draining_nodes() -> frozenset[str]:
        for error in answers:
            raise error
        return frozenset({"mine"})

    monkeypatch.setattr(module, "draining_nodes", draining_nodes)
    with caplog.at_level(logging.WARNING), drain_notice(frozenset({"mine"})) as is_draining:
        assert wait_until(is_draining)
    assert caplog.messages == ["cannot list the draining nodes: no GCS"] * 2


def test_the_cluster_is_not_polled_after_the_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "draining_nodes", frozenset)
    with drain_notice(frozenset({"mine"})):
        assert poll_threads()
    assert wait_until(lambda: not poll_threads())
