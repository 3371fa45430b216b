import math
from collections.abc import Callable
from pathlib import Path

import pytest

from selfcon.config import TrainConfig
from tune_jobs.errors import BadInputError, NoSuccessError, StorageError
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.search_study import Attempt, Decision, SearchStudy

SPACE = """
name: study
train:
  data: {dataset: digits}
  optim: {epochs: 4, global_batch_size: 64, warmup_epochs: 0}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
start:
  - {model.exit_stages: [2], loss.temperature: 0.1}
search: {num_trials: 4, seed: 3}
pruner: {kind: successive_halving, min_epochs: 2, reduction_factor: 2}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return make_space(tmp_path, SPACE)


def make_space(folder: Path, text: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path)


@pytest.fixture
def launch(tmp_path: Path, space: SearchSpace) -> Callable[[], SearchStudy]:
    """Return a function that opens the search again, as after a crash."""

    def make() -> SearchStudy:
        study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
        study.set_num_trials(space.search.num_trials)
        return study

    return make


def next_attempt(study: SearchStudy) -> Attempt:
    given = study.next_attempt()
    assert given is not None
    return given


def train(study: SearchStudy, given: Attempt, values: list[float], *, start: int = 0) -> Decision:
    """Report the epochs from `start` on until the decision is to stop."""
    decision = Decision.CONTINUE
    for epoch, value in enumerate(values, start):
        metrics = {"val/top1": value} | ({"train/loss": 1.0} if epoch else {})
        decision = study.report(given.number, given.attempt, epoch, metrics)
        if decision is Decision.STOP:
            break
    return decision


def finish(study: SearchStudy, values: list[float]) -> int:
    given = next_attempt(study)
    train(study, given, values)
    study.end_attempt(given.number, given.attempt)
    return given.number


def test_a_trial_that_reports_its_last_epoch_is_complete(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    number = finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    record = launch().record(number)
    assert (record.state, record.value, record.reason) == (State.COMPLETE, 0.9, None)
    assert record.series("val/top1") == [(1, 0.6), (2, 0.7), (3, 0.8), (4, 0.9)]
    assert [epoch.epoch for epoch in record.epochs] == [0, 1, 2, 3, 4]


def test_the_start_point_is_tried_first_with_its_types(launch: Callable[[], SearchStudy]) -> None:
    given = next_attempt(launch())
    assert given.config.model.exit_stages == (2,)
    assert given.config.loss.temperature == 0.1
    assert given.config.optim.epochs == 4
    launch()  # does not enqueue the point again
    assert sum(next_attempt(launch()).number == given.number for _ in range(3)) == 3


def test_an_interrupted_trial_is_rescheduled_with_the_same_config(
    launch: Callable[[], SearchStudy],
) -> None:
    study = launch()
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    before = next_attempt(study)
    train(study, before, [0.5, 0.6])
    again = next_attempt(launch())
    assert (again.number, again.attempt, again.config) == (before.number, 2, before.config)


def test_reports_of_an_earlier_attempt_are_ignored(launch: Callable[[], SearchStudy]) -> None:
    old = next_attempt(launch())
    study = launch()
    new = next_attempt(study)
    assert study.report(old.number, old.attempt, 0, {"val/top1": 0.1}) is Decision.STOP
    study.end_attempt(old.number, old.attempt, Reason.ERROR, "too late")
    train(study, new, [0.5])
    assert study.record(new.number).epochs[0].metrics == {"val/top1": 0.5}
    assert study.num_live == 1


def test_only_the_first_report_of_an_epoch_is_stored(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    given = next_attempt(study)
    train(study, given, [0.5, 0.6])
    train(study, given, [0.9], start=1)
    assert study.record(given.number).series("val/top1") == [(1, 0.6)]


def test_a_trial_below_the_best_of_its_rung_is_pruned(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    given = next_attempt(study)
    assert train(study, given, [0.5, 0.6, 0.65]) is Decision.STOP
    record = launch().record(given.number)
    assert (record.state, record.reason, record.last_epoch) == (State.PRUNED, Reason.RUNG, 2)


def test_the_next_launch_prunes_a_trial_if_the_launcher_died_before_it_did(
    launch: Callable[[], SearchStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = launch()
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    given = next_attempt(study)
    monkeypatch.setattr(SearchStudy, "apply_outcome", lambda *_: Decision.CONTINUE)
    train(study, given, [0.5, 0.6, 0.65])
    monkeypatch.undo()
    after = launch()
    assert after.record(given.number).state == State.RUNNING
    assert next_attempt(after).number == given.number + 1
    assert after.record(given.number).state == State.PRUNED


def test_a_collapsed_trial_is_pruned_with_that_reason(tmp_path: Path) -> None:
    from selfcon.collapse import collapsed_loss_of

    text = SPACE.replace("epochs: 4", "epochs: 8").replace("kind: successive_halving", "kind: none")
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", make_space(tmp_path, text), data_digest="d")
    study.set_num_trials(1)
    given = next_attempt(study)
    loss = collapsed_loss_of(given.config)
    study.report(given.number, given.attempt, 0, {"val/top1": 0.9})
    decisions = [
        study.report(given.number, given.attempt, epoch, {"val/top1": 0.85, "train/loss": loss * 1.005})
        for epoch in (1, 2, 3)
    ]
    assert decisions == [Decision.CONTINUE, Decision.CONTINUE, Decision.STOP]
    assert study.record(given.number).reason == Reason.COLLAPSED


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_metric_that_is_not_finite_fails_that_trial_only(
    launch: Callable[[], SearchStudy], value: float
) -> None:
    study = launch()
    given = next_attempt(study)
    assert train(study, given, [0.5, value]) is Decision.STOP
    study.end_attempt(given.number, given.attempt)
    record = study.record(given.number)
    assert (record.state, record.reason) == (State.FAIL, Reason.NON_FINITE)
    assert "val/top1" in (record.message or "")
    assert finish(study, [0.5, 0.6, 0.7, 0.8, 0.9]) == given.number + 1


@pytest.mark.parametrize("value", ["0.9", None, [0.9], {}])
def test_a_metric_that_is_not_a_number_fails_that_trial_only(
    launch: Callable[[], SearchStudy], value: object
) -> None:
    study = launch()
    given = next_attempt(study)
    assert study.report(given.number, given.attempt, 0, {"val/top1": value}) is Decision.STOP
    record = launch().record(given.number)
    assert (record.state, record.reason) == (State.FAIL, Reason.NON_FINITE)
    assert record.message == f"val/top1 is {value!r} in epoch 0"


def test_a_trial_that_never_reports_its_objective_fails(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    given = next_attempt(study)
    decisions = [study.report(given.number, given.attempt, epoch, {"train/loss": 1.0}) for epoch in range(5)]
    record = study.record(given.number)
    assert decisions[-1] is Decision.STOP
    assert (record.state, record.reason) == (State.FAIL, Reason.ERROR)
    assert record.message == "val/top1: the metric was never reported"


def test_three_attempts_without_an_epoch_fail_the_trial(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    for attempt in (1, 2, 3):
        given = next_attempt(study)
        assert (given.number, given.attempt) == (0, attempt)
        study.end_attempt(given.number, given.attempt, Reason.ERROR, "wrong shape")
    record = study.record(0)
    assert (record.state, record.reason, record.message) == (State.FAIL, Reason.ERROR, "wrong shape")
    assert next_attempt(study).number == 1


def test_attempts_that_report_an_epoch_do_not_fail_the_trial(
    launch: Callable[[], SearchStudy],
) -> None:
    study = launch()
    for epoch in range(4):
        given = next_attempt(study)
        train(study, given, [0.5 + epoch / 10], start=epoch)
        study.end_attempt(given.number, given.attempt, Reason.WORKER_LOST, "gone")
    assert study.record(0).state == State.RUNNING


def test_attempts_that_end_with_their_launcher_do_not_fail_the_trial(
    launch: Callable[[], SearchStudy],
) -> None:
    for attempt in range(1, 6):
        assert next_attempt(launch()).attempt == attempt
    assert launch().record(0).state == State.RUNNING


def test_a_trial_with_a_non_finite_loss_is_not_retried(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    given = next_attempt(study)
    study.end_attempt(given.number, given.attempt, Reason.NON_FINITE, "epoch 1, step 3: loss is nan")
    assert study.record(given.number).state == State.FAIL


def test_the_search_ends_at_its_total_and_a_larger_total_extends_it(
    launch: Callable[[], SearchStudy],
) -> None:
    study = launch()
    numbers = [finish(study, [0.5, 0.6, 0.7 + i / 100, 0.8, 0.9]) for i in range(4)]
    assert numbers == [0, 1, 2, 3]
    assert study.next_attempt() is None
    assert study.finished
    again = launch()
    again.set_num_trials(2)
    assert again.num_trials == 4
    again.set_num_trials(5)
    assert not again.finished
    assert finish(again, [0.5, 0.6, 0.9, 0.9, 0.9]) == 4


def test_the_winner_is_the_best_and_the_lower_number_on_a_tie(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    assert study.winner() is None
    for value in (0.8, 0.9, 0.9):
        finish(study, [0.5, 0.6, 0.7, 0.8, value])
    winner = study.winner()
    assert winner is not None
    assert (winner.number, winner.value) == (1, 0.9)


def test_refused_configurations_do_not_count(tmp_path: Path) -> None:
    text = SPACE.replace(
        "start:\n  - {model.exit_stages: [2], loss.temperature: 0.1}", "forbid:\n  - {model.exit_stages: [1]}"
    )
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", make_space(tmp_path, text), data_digest="d")
    study.set_num_trials(12)
    for _ in range(12):
        finish(study, [0.5, 0.9, 0.9, 0.9, 0.9])
    assert study.finished
    forbidden = [record for record in study.records() if record.reason == Reason.FORBIDDEN]
    assert forbidden
    assert all(record.parameters["model.exit_stages"] == (1,) for record in forbidden)
    assert sum(record.state == State.COMPLETE for record in study.records()) == 12


def test_a_launcher_that_dies_while_it_samples_a_trial_stores_nothing(
    launch: Callable[[], SearchStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = launch()
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    monkeypatch.setattr(SearchSpace, "suggest", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        study.next_attempt()
    monkeypatch.undo()
    given = next_attempt(launch())
    assert (given.number, given.attempt) == (1, 1)
    assert isinstance(given.config, TrainConfig)


def test_a_changed_immutable_setting_is_refused(tmp_path: Path, launch: Callable[[], SearchStudy]) -> None:
    launch()
    changed = make_space(tmp_path, SPACE.replace("high: 0.5", "high: 0.6"))
    with pytest.raises(BadInputError, match=r"0\.6"):
        SearchStudy(f"sqlite:///{tmp_path}/study.db", changed, data_digest="d")


def test_changed_data_is_refused(
    tmp_path: Path, space: SearchSpace, launch: Callable[[], SearchStudy]
) -> None:
    launch()
    with pytest.raises(BadInputError, match="data_digest"):
        SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="e")


def test_an_unusable_storage_is_an_error_with_one_line(tmp_path: Path, space: SearchSpace) -> None:
    (tmp_path / "study.db").write_text("not a database")
    with pytest.raises(StorageError, match="the study's database cannot be used") as caught:
        SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    assert "\n" not in str(caught.value)


def fail(study: SearchStudy, *, reason: Reason = Reason.OUT_OF_MEMORY) -> None:
    given = next_attempt(study)
    for attempt in range(given.attempt, given.attempt + 3):
        study.end_attempt(given.number, attempt, reason, "too large")
        if attempt < given.attempt + 2:
            assert next_attempt(study).number == given.number


def test_a_search_ends_for_good_if_its_first_three_trials_fail_with_the_same_error(
    launch: Callable[[], SearchStudy],
) -> None:
    study = launch()
    for _ in range(3):
        fail(study)
    line = "the first 3 trials failed with the same error (out of memory): too large"
    assert study.common_failure == line
    for again in (study, launch()):
        with pytest.raises(NoSuccessError) as caught:
            again.next_attempt()
        assert str(caught.value) == line


def test_a_search_waits_for_running_trials_before_it_fails(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    live = next_attempt(study)
    for _ in range(3):
        fail(study)
    assert study.next_attempt() is None
    train(study, live, [0.5, 0.6, 0.7, 0.8, 0.9])
    study.end_attempt(live.number, live.attempt)
    assert study.common_failure is None


SEVERAL = """
objective:
  - {metric: val/top1, direction: maximize}
  - {metric: cost/seconds, direction: minimize}
constraints: [{metric: cost/peak_memory_mb, max: 4000}]
"""


def finish_with(study: SearchStudy, top1: float, seconds: float, memory: float) -> TrialRecord:
    given = next_attempt(study)
    metrics = {"val/top1": top1, "cost/seconds": seconds, "cost/peak_memory_mb": memory}
    for epoch in range(5):
        study.report(given.number, given.attempt, epoch, metrics)
    study.end_attempt(given.number, given.attempt)
    return study.record(given.number)


def test_several_objectives_have_a_front_and_a_feasible_winner(tmp_path: Path) -> None:
    text = SPACE.replace("num_trials: 4", "num_trials: 9").replace("kind: successive_halving", "kind: none")
    space = make_space(tmp_path, text.replace(", min_epochs: 2, reduction_factor: 2", "") + SEVERAL)
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    study.set_num_trials(9)
    infeasible = finish_with(study, 0.99, 10, 5000)
    assert (infeasible.state, infeasible.feasible, study.winner()) == (State.COMPLETE, False, None)
    assert infeasible.violations == {"cost/peak_memory_mb <= 4000": 1000}
    for top1, seconds in ((0.9, 30), (0.8, 20), (0.7, 25), (0.9, 30)):
        finish_with(study, top1, seconds, 4000)
    again = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    winner = again.winner()
    assert winner is not None
    assert (winner.number, winner.value, winner.values) == (1, 0.9, (0.9, 30))
    assert [record.number for record in again.pareto_front()] == [1, 2, 4]


def test_pruning_with_several_objectives_uses_the_first(tmp_path: Path) -> None:
    space = make_space(tmp_path, SPACE + SEVERAL)
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    study.set_num_trials(3)
    assert finish_with(study, 0.9, 30, 100).state == State.COMPLETE
    pruned = finish_with(study, 0.8, 1, 100)
    assert (pruned.state, pruned.reason, pruned.last_epoch) == (State.PRUNED, Reason.RUNG, 2)
    assert next_attempt(study).number == 2  # the sampler accepts the pruned trial


def test_brute_force_ends_the_search_when_the_space_is_exhausted(tmp_path: Path) -> None:
    text = """
space: {model.exit_stages: {choices: [[1], [2], [3]]}}
search: {num_trials: 10, sampler: brute_force}
train: {optim: {epochs: 1, warmup_epochs: 0}}
"""
    space = make_space(tmp_path, text)
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    study.set_num_trials(10)
    while (given := study.next_attempt()) is not None:
        train(study, given, [0.5, 0.6])
        study.end_attempt(given.number, given.attempt)
    again = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    assert again.finished
    assert again.next_attempt() is None
    assert {record.parameters["model.exit_stages"] for record in again.records()} == {(1,), (2,), (3,)}
    assert len(again.records()) == 3


def test_the_next_launcher_reads_the_same_records(launch: Callable[[], SearchStudy]) -> None:
    study = launch()
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    finish(study, [0.5, 0.6, 0.65])
    given = next_attempt(study)
    train(study, given, [0.5, math.nan])
    study.end_attempt(given.number, given.attempt)
    last = next_attempt(study)
    train(study, last, [0.5, 0.6])
    study.end_attempt(last.number, last.attempt, Reason.WORKER_LOST, "gone")
    next_attempt(study)
    study.remember_run(1, "a run")
    assert launch().records() == study.records()


def test_timestamps_of_epochs_increase_even_if_the_clock_is_set_back(
    launch: Callable[[], SearchStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    study = launch()
    clock = iter([5_000, 4_000, 4_000, 9_000, 9_000, 1_000])
    monkeypatch.setattr("tune_jobs.study.store.now_ms", lambda: next(clock))
    given = next_attempt(study)
    train(study, given, [0.5, 0.6, 0.7, 0.8])
    assert [e.timestamp_ms for e in study.record(given.number).epochs] == [4_000, 4_001, 9_000, 9_001]


def with_budget(folder: Path, budget: str) -> SearchStudy:
    space = make_space(folder, SPACE.replace("num_trials: 4", f"num_trials: 4, {budget}"))
    study = SearchStudy(f"sqlite:///{folder}/study.db", space, data_digest="d")
    study.set_num_trials(space.search.num_trials)
    return study


def test_a_time_budget_counts_all_launches_and_completes_unfinished_trials(tmp_path: Path) -> None:
    study = with_budget(tmp_path, "time_budget: 1m")
    study.spend(40)
    given = next_attempt(study)
    study = with_budget(tmp_path, "time_budget: 1m")
    study.spend(20)
    assert study.spent_budget == "search.time_budget of 1m"
    assert not study.finished
    again = next_attempt(study)  # only the unfinished trial
    assert (again.number, study.next_attempt()) == (given.number, None)
    train(study, again, [0.5, 0.6, 0.7, 0.8, 0.9])
    study.end_attempt(again.number, again.attempt)
    assert study.finished


def test_a_larger_budget_continues_a_published_search(tmp_path: Path) -> None:
    study = with_budget(tmp_path, "time_budget: 1m")
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    study.spend(60)
    study.mark_published()
    assert study.is_published
    study = with_budget(tmp_path, "time_budget: 2m")
    assert not study.finished
    finish(study, [0.5, 0.6, 0.7, 0.8, 0.9])
    study.spend(60)
    assert study.finished
    assert not study.is_published


def test_accelerator_hours_are_summed_over_all_trials(tmp_path: Path) -> None:
    study = with_budget(tmp_path, "accelerator_hours: 1.5")
    for hours in (0.7, 0.9):
        assert study.spent_budget is None
        given = next_attempt(study)
        for epoch, value in enumerate([0.5, 0.6, 0.7, 0.8, 0.9]):
            metrics = {"val/top1": value, "cost/accelerator_hours": hours * epoch / 4}
            study.report(given.number, given.attempt, epoch, metrics)
        study.end_attempt(given.number, given.attempt)
    assert study.spent_budget == "search.accelerator_hours of 1.5"
    assert study.next_attempt() is None
    assert study.finished
