"""Confirmation of a search, over several launches on the same database."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import optuna
import pytest

from tune_jobs.space import load_space
from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.trial_study import Attempt, Decision, TrialStudy

SPACE = """
name: confirmed
train:
  optim: {epochs: 2, warmup_epochs: 0}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  loss.temperature: {low: 0.05, high: 0.5}
search: {num_trials: 4, sampler: random, time_budget: 1h}
pruner: {kind: successive_halving, min_epochs: 1, reduction_factor: 2}
confirm: {top_k: 2, seeds: 3}
tracking: {experiment: several}
"""
SEVERAL = """
objective:
  - {metric: val/top1, direction: maximize}
  - {metric: cost/seconds, direction: minimize}
constraints: [{metric: cost/peak_memory_mb, max: 4000}]
"""
# val/top1 of trials 0, 1, ... in the last epoch; before it all have 0.1, so none is pruned.
VALUES = [0.5, 0.7, 0.8, 0.9]

Launcher = Callable[..., SearchStudy]


@pytest.fixture
def launch(tmp_path: Path) -> Launcher:
    """Return a function that opens the search again, as after a crash, with changes to its space file."""

    def make(*changes: str, more: str = "") -> SearchStudy:
        (tmp_path / "space.yaml").write_text(SPACE + more)
        space = load_space(tmp_path / "space.yaml", overrides=changes)
        study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
        study.set_num_trials(space.search.num_trials)
        return study

    return make


def next_attempt(study: TrialStudy) -> Attempt:
    given = study.next_attempt()
    assert given is not None
    return given


def train(study: TrialStudy, given: Attempt, value: float, **others: float) -> TrialRecord:
    """Train an attempt until it is stopped."""
    for epoch in range(given.last_epoch + 1, 3):
        metrics = {"val/top1": value if epoch == 2 else 0.1, **others} | (
            {"train/loss": 1.0} if epoch else {}
        )
        if study.report(given.number, given.attempt, epoch, metrics) is Decision.STOP:
            break
    study.end_attempt(given.number, given.attempt)
    return study.record(given.number)


def run_search(study: SearchStudy, values: list[float] = VALUES) -> SearchStudy:
    """Train all trials of the search; trial n ends with the n-th value."""
    while (given := study.next_attempt()) is not None:
        train(study, given, values[given.number])
    return study


def confirmation_of(study: SearchStudy) -> TrialStudy:
    assert study.confirmation is not None
    return study.confirmation


def seeds_trained(study: SearchStudy, value_of: Callable[[Attempt], float]) -> Iterator[str]:
    """Train all repetitions of the confirmation, and yield their names."""
    while (given := confirmation_of(study).next_attempt()) is not None:
        train(confirmation_of(study), given, value_of(given))
        yield given.name


def confirm(study: SearchStudy, value_of: Callable[[Attempt], float] = lambda _: 0.85) -> list[str]:
    return list(seeds_trained(study, value_of))


def means(study: SearchStudy) -> dict[int, float]:
    assert study.confirmation is not None
    return {found.trial.number: found.mean for found in study.confirmation.candidates()}


def test_the_best_trials_are_retrained_with_further_seeds(launch: Launcher) -> None:
    study = run_search(launch())
    assert study.finished
    assert not confirmation_of(study).finished
    given = next_attempt(confirmation_of(study))
    assert (given.number, given.attempt, given.name, given.last_epoch) == (0, 1, "0003-seed-1", -1)
    trial = study.record(3)
    assert given.config.flat() == {**(trial.config or {}), "seed": 1}
    train(confirmation_of(study), given, 0.8)
    assert confirm(study) == ["0002-seed-1", "0003-seed-2", "0002-seed-2"]
    assert [confirmation_of(study).record(n).config for n in (2, 3)] == [
        {**(study.record(n).config or {}), "seed": 2} for n in (3, 2)
    ]
    assert confirmation_of(study).finished
    assert study.next_attempt() is None


def test_the_winner_has_the_best_mean_not_the_best_value(launch: Launcher) -> None:
    study = run_search(launch())
    before = study.winner()
    assert before is not None
    assert before.number == 3
    confirm(study, lambda given: 0.3 if given.name.startswith("0003") else 0.85)
    assert means(launch()) == pytest.approx({2: (0.8 + 2 * 0.85) / 3, 3: (0.9 + 2 * 0.3) / 3})
    winner = launch().winner()
    assert winner is not None
    assert (winner.number, winner.value, winner.confirms) == (2, 0.8, None)  # the trial itself is registered


def test_a_candidate_with_a_failed_seed_is_ranked_after_the_others(launch: Launcher) -> None:
    study = run_search(launch())
    confirm(study, lambda given: math.nan if given.name == "0003-seed-2" else 0.9)
    failed = confirmation_of(launch()).record(2)
    assert (failed.name, failed.state, failed.reason) == ("0003-seed-2", State.FAIL, Reason.NON_FINITE)
    assert list(means(launch())) == [2, 3]
    assert confirmation_of(launch()).finished  # a failed seed is not retrained


def test_a_bad_seed_is_neither_pruned_nor_collapsed(launch: Launcher) -> None:
    study = run_search(launch())
    stage = confirmation_of(study)
    given = next_attempt(stage)
    collapsed = 2.0 * math.log(4 * 256 - 1) * 0.1 / 0.07
    for epoch in range(3):
        metrics = {"val/top1": 0.0, "train/loss": collapsed}
        decision = stage.report(given.number, given.attempt, epoch, metrics)
        assert decision is (Decision.STOP if epoch == 2 else Decision.CONTINUE)
    assert stage.record(given.number).state == State.COMPLETE


def test_an_interrupted_seed_is_rescheduled_with_the_same_configuration(launch: Launcher) -> None:
    study = run_search(launch())
    given = next_attempt(confirmation_of(study))
    confirmation_of(study).report(given.number, given.attempt, 0, {"val/top1": 0.4})
    later = launch()
    assert not later.is_published
    assert later.next_attempt() is None
    again = next_attempt(confirmation_of(later))
    assert (again.number, again.attempt, again.name, again.last_epoch) == (0, 2, given.name, 0)
    assert again.config == given.config
    other = next_attempt(confirmation_of(later))
    assert (other.number, other.name) == (1, "0002-seed-1")


def test_seeds_do_not_count_as_trials_or_towards_budgets(launch: Launcher, tmp_path: Path) -> None:
    study = run_search(launch())
    before = study.records()
    confirmation_of(study).spend(7200)
    confirm(study)
    assert launch().records() == before
    assert launch().spent_budget is None
    url = f"sqlite:///{tmp_path}/study.db"
    assert sorted(optuna.get_all_study_names(url)) == ["several/confirmed", "several/confirmed/confirm"]
    stored = optuna.load_study(study_name="several/confirmed/confirm", storage=url)
    assert [trial.state.name for trial in stored.trials] == ["COMPLETE"] * 4
    assert [record.name for record in launch().all_records()][4:] == [
        "0003-seed-1", "0002-seed-1", "0003-seed-2", "0002-seed-2",
    ]  # fmt: skip


def test_an_extended_search_trains_only_the_missing_seeds(launch: Launcher) -> None:
    confirm(run_search(launch()))
    study = launch("search.num_trials=5")
    assert not study.finished
    run_search(study, [*VALUES, 0.95])
    assert confirm(study) == ["0004-seed-1", "0004-seed-2"]
    assert list(means(study)) == [4, 3]
    assert confirm(launch("search.num_trials=5")) == []


@pytest.mark.parametrize(
    ("changes", "trained"),
    [
        (("confirm={top_k: 2, seeds: 4}",), ["0003-seed-3", "0002-seed-3"]),
        (("confirm={top_k: 3, seeds: 3}",), ["0001-seed-1", "0001-seed-2"]),
        (("confirm={top_k: 1, seeds: 2}",), []),
    ],
)
def test_top_k_and_seeds_may_change(launch: Launcher, changes: tuple[str, ...], trained: list[str]) -> None:
    study = run_search(launch())
    confirm(study)
    study.mark_published()
    assert launch().is_published
    later = launch(*changes)
    assert not later.is_published
    assert later.finished
    assert confirm(later) == trained
    later.mark_published()
    assert launch(*changes).is_published


def test_with_fewer_seeds_only_the_first_ones_count(launch: Launcher) -> None:
    study = run_search(launch())
    confirm(study, lambda given: 0.0 if given.name.endswith("2") else 0.9)
    assert means(study) == pytest.approx({3: 0.6, 2: 1.7 / 3})
    assert means(launch("confirm={top_k: 2, seeds: 2}")) == pytest.approx({3: 0.9, 2: 0.85})


def test_a_started_seed_is_completed_even_if_its_trial_is_no_longer_among_the_best(
    launch: Launcher,
) -> None:
    started = next_attempt(confirmation_of(run_search(launch())))
    study = launch("search.num_trials=6")
    run_search(study, [*VALUES, 0.95, 0.96])
    assert confirm(study) == [started.name, "0005-seed-1", "0004-seed-1", "0005-seed-2", "0004-seed-2"]
    assert list(means(study)) == [5, 4]


def test_with_several_objectives_the_front_is_confirmed_by_the_first(launch: Launcher) -> None:
    study = launch("pruner={}", more=SEVERAL)
    for top1, seconds, memory in ((0.9, 9.0, 100), (0.8, 9.5, 100), (0.7, 1.0, 100), (0.99, 1.0, 5000)):
        train(study, next_attempt(study), top1, **{"cost/seconds": seconds, "cost/peak_memory_mb": memory})
    others = {"cost/seconds": 1.0, "cost/peak_memory_mb": 100.0}
    stage, names = confirmation_of(study), []
    while (given := stage.next_attempt()) is not None:
        train(stage, given, 0.1 if given.name.startswith("0000") else 0.8, **others)
        names.append(given.name)
    assert names == ["0000-seed-1", "0002-seed-1", "0000-seed-2", "0002-seed-2"]
    winner = study.winner()
    assert winner is not None
    assert (winner.number, winner.values) == (2, (0.7, 1.0))


def test_a_search_without_candidates_has_no_confirmation(launch: Launcher) -> None:
    study = run_search(launch("search.num_trials=1"), [math.nan])
    assert confirm(study) == []
    assert confirmation_of(study).finished
    assert study.winner() is None


def test_mlflow_runs_are_stored_in_the_study_of_their_trial(launch: Launcher) -> None:
    study = run_search(launch())
    confirm(study)
    for record in study.all_records():
        study.remember_run_of(record, f"run of {record.name}")
    assert [record.mlflow_run for record in launch().all_records()] == [
        f"run of {record.name}" for record in study.all_records()
    ]


def test_the_next_launcher_reads_the_same_records(launch: Launcher) -> None:
    study = run_search(launch())
    next_attempt(confirmation_of(study))
    assert launch().all_records() == study.all_records()


def test_the_confirmation_records_heartbeats(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(
        "name: lives\nspace: {loss.temperature: {low: 0.1, high: 0.5}}\nconfirm: {top_k: 1, seeds: 2}\n"
    )
    study = SearchStudy(
        f"sqlite:///{tmp_path}/study.db", load_space(tmp_path / "space.yaml"), data_digest="d"
    )
    data = {"name": "digits", "num_images": {}, "num_classes": 10}
    study.record_launch(data=data, environment={}, commit=None)
    (before,) = study.snapshot().launches
    time.sleep(0.01)
    assert study.confirmation is not None
    study.confirmation.spend(1.0)
    (after,) = study.snapshot().launches
    assert after.last_seen_ms > before.last_seen_ms
