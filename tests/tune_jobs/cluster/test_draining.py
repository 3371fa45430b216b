import logging
import threading
import time
from collections.abc import Callable

import pytest

from tune_jobs.cluster import draining as preemption
from tune_jobs.cluster.draining import drain_notice


@pytest.fixture(autouse=True)
def polled_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "POLL_S", 0.01)


def until(condition: Callable[[], bool], *, timeout_s: float = 10.0) -> bool:
    deadline = time.monotonic() + timeout_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.01)
    return condition()


def watchers() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name == "drain notice"]


def test_only_the_nodes_that_an_attempt_stands_on_count(monkeypatch: pytest.MonkeyPatch) -> None:
    draining = {"other"}
    monkeypatch.setattr(preemption, "draining_nodes", lambda: frozenset(draining))
    with drain_notice(frozenset({"mine", "its trial's"})) as is_draining:
        assert not until(is_draining, timeout_s=0.2)
        draining.add("its trial's")
        assert until(is_draining)
        draining.clear()
        assert is_draining()


def test_a_cluster_that_does_not_answer_is_asked_again(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    answers = iter([ConnectionError("no GCS"), ConnectionError("no GCS")])

    def draining_nodes() -> frozenset[str]:
        for error in answers:
            raise error
        return frozenset({"mine"})

    monkeypatch.setattr(preemption, "draining_nodes", draining_nodes)
    with caplog.at_level(logging.WARNING), drain_notice(frozenset({"mine"})) as is_draining:
        assert until(is_draining)
    assert caplog.messages == ["the draining nodes are not known: no GCS"] * 2


def test_nobody_asks_once_the_training_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preemption, "draining_nodes", frozenset)
    with drain_notice(frozenset({"mine"})):
        assert watchers()
    assert until(lambda: not watchers())
