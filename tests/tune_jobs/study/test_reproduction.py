from pathlib import Path

import pytest

from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.reproduction import Reproduction
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.trial_study import Decision, TrialStudy

SPACE = """
name: again
train: {optim: {epochs: 4}, seed: 5}
space: {loss.temperature: {low: 0.05, high: 0.5}}
pruner: {kind: successive_halving, min_epochs: 2, reduction_factor: 2}
search: {num_trials: 3}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(tmp_path / "space.yaml")


@pytest.fixture
def trials(tmp_path: Path, space: SearchSpace) -> list[TrialRecord]:
    """The trials of a search: trial 0 is complete, trial 1 was pruned after epoch 2."""
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    study.set_num_trials(2)
    for value in (0.9, 0.1):
        train(study, value)
    return study.records()


def train(study: TrialStudy, value: float, *, epochs: int = 4) -> int:
    """Train the next attempt until it is stopped; return its last epoch."""
    given = study.next_attempt()
    assert given is not None
    for epoch in range(epochs + 1):
        if study.report(given.number, given.attempt, epoch, {"val/top1": value}) is Decision.STOP:
            break
    study.interrupt_attempt(given.number, given.attempt)
    return study.record(given.number).last_epoch


def reproduction(tmp_path: Path, space: SearchSpace, original: TrialRecord) -> Reproduction:
    return Reproduction(f"sqlite:///{tmp_path}/study.db", space, original)


def test_a_trial_is_retrained_with_its_recorded_configuration(
    tmp_path: Path, space: SearchSpace, trials: list[TrialRecord]
) -> None:
    again = reproduction(tmp_path, space, trials[0])
    assert (again.plan, again.finished, again.records()) == ("reproduction of trial 0, 4 epochs", False, [])
    assert train(again, 0.9) == 4
    assert again.next_attempt() is None
    (record,) = again.records()
    assert again.finished
    assert (record.name, record.label, record.state) == ("0000-again-1", "0-again-1", State.COMPLETE)
    assert record.config == trials[0].config
    assert record.parameters == trials[0].parameters


def test_a_pruned_trial_ends_at_its_recorded_last_epoch_even_if_it_is_better(
    tmp_path: Path, space: SearchSpace, trials: list[TrialRecord]
) -> None:
    again = reproduction(tmp_path, space, trials[1])
    assert train(again, 0.99) == 2
    (record,) = again.records()
    assert (record.state, record.reason, record.total_epochs) == (State.PRUNED, "rung", 4)


def test_an_interrupted_reproduction_resumes_and_after_a_finished_one_a_new_one_starts(
    tmp_path: Path, space: SearchSpace, trials: list[TrialRecord]
) -> None:
    assert train(reproduction(tmp_path, space, trials[0]), 0.9, epochs=1) == 1
    resumed = reproduction(tmp_path, space, trials[0])
    assert not resumed.finished
    assert train(resumed, 0.9) == 4
    assert [(r.label, r.attempts) for r in resumed.records()] == [("0-again-1", 2)]
    another = reproduction(tmp_path, space, trials[0])
    assert train(another, 0.9) == 4
    assert [record.label for record in another.records()] == ["0-again-2"]


def test_reproductions_of_other_trials_are_not_resumed(
    tmp_path: Path, space: SearchSpace, trials: list[TrialRecord]
) -> None:
    train(reproduction(tmp_path, space, trials[0]), 0.9, epochs=1)
    other = reproduction(tmp_path, space, trials[1])
    assert train(other, 0.1) == 2
    assert [record.label for record in other.records()] == ["1-again-1"]


def test_the_search_does_not_include_reproductions(
    tmp_path: Path, space: SearchSpace, trials: list[TrialRecord]
) -> None:
    train(reproduction(tmp_path, space, trials[0]), 0.9)
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    assert study.records() == trials
