"""The searcher and the scheduler without Tune, called as Tune calls them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import pytest
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial
from ray.tune.schedulers import TrialScheduler
from ray.tune.search import Searcher

from tune_jobs.errors import ClusterLostError, NoSuccessError, StorageError
from tune_jobs.execution import searcher as module
from tune_jobs.execution.searcher import FirstError, StudyScheduler, StudySearcher
from tune_jobs.space import load_space
from tune_jobs.study.records import Reason
from tune_jobs.study.search_study import Attempt, SearchStudy
from tune_jobs.terminal.event_log import ending
from tune_jobs.terminal.interruption import Interruption

SPACE = """
name: searcher
train: {optim: {epochs: 2, global_batch_size: 64}}
space: {loss.temperature: {low: 0.05, high: 0.5}}
search: {num_trials: 5, time_budget: 1h}
"""
CONTROLLER = cast(TuneController, None)  # not used


class Silent:
    """Listener that does nothing."""

    def attempt_started(self, attempt: Attempt) -> None: ...

    def epoch_reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None: ...

    def attempt_ended(self, number: int) -> None: ...


class TuneTrial:
    """The part of Tune's trial that the scheduler uses."""

    def __init__(self, config: Any) -> None:
        self.config = config


class Search:
    """A study with its searcher and scheduler."""

    def __init__(self, folder: Path) -> None:
        (folder / "space.yaml").write_text(SPACE)
        space = load_space(folder / "space.yaml")
        self.database = folder / "study.db"
        self.study = SearchStudy(f"sqlite:///{self.database}", space, data_digest="d")
        self.study.set_num_trials(space.search.num_trials)
        self.at_once, self.num_workers, self.live = 2, 1, [0]
        self.lost: ClusterLostError | None = None
        self.first_error, interruption = FirstError(), Interruption(grace_s=1.0)
        shared: dict[str, Any] = {
            "interruption": interruption,
            "listener": Silent(),
            "first_error": self.first_error,
        }
        shared["await_cluster"] = self.await_cluster
        self.searcher = StudySearcher(self.study, workers_for_next=self.workers_for_next, **shared)
        self.scheduler = StudyScheduler(self.study, **shared)

    def await_cluster(self) -> None:
        if self.lost is not None:
            raise self.lost

    def workers_for_next(self, live: Sequence[int]) -> int:
        self.live = list(live)
        return self.num_workers if len(live) < self.at_once else 0

    def report(self, config: Any, result: dict[str, Any]) -> str:
        return self.scheduler.on_trial_result(CONTROLLER, cast(Trial, TuneTrial(config)), result)


@pytest.fixture
def search(tmp_path: Path) -> Search:
    return Search(tmp_path)


def test_only_as_many_trials_run_as_fit(search: Search) -> None:
    first, second = search.searcher.suggest("a"), search.searcher.suggest("b")
    assert [cast(dict[str, Any], config)["number"] for config in (first, second)] == [0, 1]
    assert search.searcher.suggest("c") is None
    search.searcher.on_trial_complete(trial_id="a")
    again = cast(dict[str, Any], search.searcher.suggest("c"))
    assert (again["number"], again["attempt"]) == (0, 2)


def test_the_number_of_trials_follows_the_cluster(search: Search) -> None:
    search.at_once = 0
    assert search.searcher.suggest("a") is None
    search.at_once = 1
    assert search.searcher.suggest("a") is not None
    assert search.searcher.suggest("b") is None
    search.at_once = 2
    assert search.searcher.suggest("b") is not None
    search.at_once = 0
    search.searcher.on_trial_complete(trial_id="a")
    search.searcher.on_trial_complete(trial_id="b")
    assert search.searcher.suggest("c") is None  # both are rescheduled when they fit


def test_each_attempt_has_its_own_number_of_workers_and_keeps_it(search: Search) -> None:
    search.num_workers = 3
    assert cast(dict[str, Any], search.searcher.suggest("a"))["num_workers"] == 3
    search.num_workers = 2
    assert cast(dict[str, Any], search.searcher.suggest("b"))["num_workers"] == 2
    assert search.searcher.suggest("c") is None
    assert search.live == [3, 2]
    search.searcher.on_trial_complete(trial_id="a")
    search.num_workers = 1
    assert cast(dict[str, Any], search.searcher.suggest("c"))["num_workers"] == 1
    assert search.live == [2]
    assert [record.workers for record in search.study.records()] == [(3, 1), (2,)]


def test_a_preempted_attempt_is_always_rescheduled(search: Search) -> None:
    search.at_once = 1
    for attempt in range(1, 6):
        config = cast(dict[str, Any], search.searcher.suggest("a"))
        assert (config["number"], config["attempt"]) == (0, attempt)
        failure = {"failure": Reason.PREEMPTED.value, "message": "stopped on request after step 3 of epoch 1"}
        assert search.report(config, failure) == TrialScheduler.CONTINUE
        assert search.searcher.suggest("b") is None  # its workers have not exited yet
        search.searcher.on_trial_complete(trial_id="a")
    record = search.study.record(0)
    assert {end.reason for end in record.attempt_ends} == {Reason.PREEMPTED}
    assert ending(record) == "preempted in epoch 0, will be rescheduled"


def test_a_search_with_a_used_up_budget_does_not_wait_for_resources(search: Search) -> None:
    search.at_once = 0
    search.study.spend(3600.0)
    assert search.searcher.suggest("a") == Searcher.FINISHED


def test_trials_with_the_same_error_end_the_search_with_their_reason(search: Search) -> None:
    for name in "abc":
        config = search.searcher.suggest(name)
        search.report(config, {"epoch": 0, "metrics/val/top1": float("nan")})
        search.searcher.on_trial_complete(trial_id=name)
    assert search.searcher.suggest("d") == Searcher.FINISHED
    assert isinstance(search.first_error.error, NoSuccessError)
    assert "failed with the same error (non-finite)" in str(search.first_error.error)


def test_a_lost_study_database_stops_every_trial(search: Search) -> None:
    config = search.searcher.suggest("a")
    search.database.unlink()
    assert search.report(config, {"epoch": 0, "metrics/val/top1": 0.5}) == TrialScheduler.STOP
    assert isinstance(search.first_error.error, StorageError)
    search.searcher.on_trial_complete(trial_id="a")
    assert search.searcher.suggest("b") == Searcher.FINISHED


@pytest.mark.parametrize(("step_s", "is_counted"), [(0.0, True), (3600.0, False)])
def test_wall_clock_time_is_counted_in_steps(
    search: Search, monkeypatch: pytest.MonkeyPatch, step_s: float, is_counted: bool
) -> None:
    seconds: list[float] = []
    monkeypatch.setattr(module, "BUDGET_STEP_S", step_s)
    monkeypatch.setattr(search.study, "spend", seconds.append)
    search.searcher.suggest("a")
    assert bool(seconds) is is_counted
    assert all(0 < passed < 60 for passed in seconds)


def test_an_attempt_that_fails_with_the_cluster_is_not_recorded_as_failed(search: Search) -> None:
    config = search.searcher.suggest("a")
    search.lost = ClusterLostError("the Ray cluster is lost")
    search.report(config, {"failure": Reason.WORKER_LOST, "message": "its process is gone"})
    search.searcher.on_trial_complete(trial_id="a", error=True)
    assert search.first_error.error is search.lost
    (record,) = search.study.records()
    assert (record.attempts, record.attempt_ends) == (1, ())
    assert search.searcher.suggest("b") == Searcher.FINISHED


def test_an_attempt_that_returns_when_the_cluster_is_lost_has_no_recorded_end(search: Search) -> None:
    search.searcher.suggest("a")
    search.lost = ClusterLostError("the Ray cluster is lost")
    search.searcher.on_trial_complete(trial_id="a")
    assert search.first_error.error is search.lost
    assert search.study.record(0).attempt_ends == ()
