from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.report.comparison import groups, trial_gaps
from tune_jobs.report.findings import answer
from tune_jobs.report.noise import noise
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import EpochRecord, TrialRecord
from tune_jobs.study.snapshot import Snapshot

RecordMaker = Callable[..., TrialRecord]
SnapshotMaker = Callable[..., Snapshot]
Trial = tuple[Any, ...]

SPACE = """
name: exits
train: {optim: {epochs: 4}}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
search: {num_trials: 9}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "exits.yaml").write_text(SPACE)
    return load_space(tmp_path / "exits.yaml")


@pytest.fixture
def build(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace
) -> Callable[..., Snapshot]:
    """Return a function that builds a search from (stage, depth, temperature, values by epoch) trials.

    A trial with fewer than four values was pruned.
    """

    def record(
        number: int, stage: int, depth: str | None, temperature: float, values: Sequence[float]
    ) -> TrialRecord:
        parameters: dict[str, Any] = {"model.exit_stages": (stage,), "loss.temperature": temperature}
        parameters |= {"model.exit_depth": depth} if depth else {}
        state = "COMPLETE" if len(values) == 4 else "PRUNED"
        made = make_record(number, state, num_epochs=len(values), parameters=parameters)
        epochs = [EpochRecord(i + 1, {"val/top1": v}, made.started_ms + i, 1) for i, v in enumerate(values)]
        last = values[-1] if state == "COMPLETE" else None
        return replace(made, epochs=tuple(epochs), value=last, values=() if last is None else (last,))

    def search(*trials: Trial, **changes: Any) -> Snapshot:
        return make_snapshot(space, [record(i, *trial) for i, trial in enumerate(trials)], **changes)

    return search


def rising(last: float) -> list[float]:
    return [0.5, 0.6, 0.7, last]


def lines(snapshot: Snapshot) -> tuple[str, ...]:
    found = answer(snapshot, {})
    assert found is not None
    return found.lines()


def test_the_answer_names_the_best_the_tied_and_the_worse_values(build: Callable[..., Snapshot]) -> None:
    found = lines(
        build(
            (2, "fc", 0.1, rising(0.95)),
            (3, None, 0.1, rising(0.94)),
            (1, "small", 0.1, rising(0.80)),
            (2, "small", 0.1, rising(0.93)),
        )
    )
    assert found[0] == (
        "Best configuration: exit after stage 2, temperature 0.1, exit depth fc; val/top1 0.9500, "
        "95 % interval 0.9183 to 0.9698 (trial 0)."
    )
    assert found[1] == (
        "Exit position: stage 2 is best; stage 3 is tied with it within noise; "
        "stage 1 is behind by 0.1500 (1 trial)."
    )
    assert found[2] == "Sub-network depth hardly matters: fc and small are tied within noise."
    assert found[3] == "Temperature: not enough trials to tell."


def test_a_numeric_finding_is_the_range_of_the_good_trials(build: Callable[..., Snapshot]) -> None:
    trials = [
        (2, "fc", t, rising(v)) for t, v in ((0.06, 0.7), (0.1, 0.95), (0.15, 0.94), (0.3, 0.8), (0.5, 0.7))
    ]
    assert "Temperature: good from 0.1 to 0.15; 1 trial below and 2 trials above performed worse." in lines(
        build(*trials)
    )


def test_a_parameter_that_is_good_over_its_whole_range_hardly_matters(build: Callable[..., Snapshot]) -> None:
    trials = [(2, "fc", t, rising(0.95)) for t in (0.05, 0.1, 0.2, 0.45)]
    assert "Temperature hardly matters from 0.05 to 0.45." in lines(build(*trials))


def test_a_parameter_with_a_single_choice_has_no_finding(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path
) -> None:
    path = tmp_path / "best.yaml"
    path.write_text("space: {seed: {choices: [0]}, model.exit_stages: {choices: [[1], [2]]}}\n")
    records = [make_record(0, parameters={"seed": 0, "model.exit_stages": (1,)})]
    _, *found = lines(make_snapshot(load_space(path), records))
    assert found[0] == "Exit position: only stage 1 has a usable result; stage 2 was not tried."
    assert not any("Seed" in line for line in found)


def test_few_trials_give_no_range(build: Callable[..., Snapshot]) -> None:
    trials = [(2, "fc", t, rising(0.95)) for t in (0.05, 0.1, 0.2)]
    assert "Temperature: not enough trials to tell." in lines(build(*trials))


def test_a_pruned_trial_is_compared_at_its_last_epoch(build: Callable[..., Snapshot]) -> None:
    snapshot = build(
        (2, "fc", 0.1, rising(0.95)),
        (3, None, 0.1, [0.5, 0.59]),
        (1, "fc", 0.1, [0.5, 0.3]),
        (1, "fc", 0.2, [0.5]),
    )
    found = {group.value: group for group in groups(snapshot, "model.exit_stages")}
    assert [gap.record.number for gap in trial_gaps(snapshot)] == [0, 1, 2, 3]
    third, first = found[(3,)].best, found[(1,)].best
    assert third is not None
    assert (third.tied, third.epoch) == (True, 2)
    assert third.gap == pytest.approx(0.01)
    assert first is not None
    assert (first.record.number, first.epoch, first.gap) == (3, 1, 0.0)
    text = " ".join(lines(snapshot))
    assert (
        "stage 3 are tied within noise (compared at epoch 1 or later, where pruning stopped trials)" in text
    )


def test_findings_from_pruned_trials_name_the_epoch_of_the_comparison(build: Callable[..., Snapshot]) -> None:
    snapshot = build((2, "fc", 0.1, rising(0.95)), (1, "fc", 0.1, [0.49]), (3, None, 0.1, [0.5, 0.6, 0.69]))
    text = " ".join(lines(snapshot))
    assert " are tied within noise (compared at epoch 1 or later, where pruning stopped trials)" in text
    pruned = ((1, "fc", 0.1, [0.5, 0.59]), (1, "small", 0.1, [0.5, 0.2]))
    text = " ".join(lines(build((3, None, 0.1, rising(0.95)), *pruned)))
    assert "Sub-network depth: fc is best (compared at epoch 2); small is behind by" in text


def test_importance_is_shown_only_if_some_values_are_better(build: Callable[..., Snapshot]) -> None:
    snapshot = build((2, "fc", 0.1, rising(0.95)), (1, "small", 0.2, rising(0.5)))
    found = answer(snapshot, {"loss.temperature": 0.7, "model.exit_stages": 0.3})
    assert found is not None
    assert found.findings[0].startswith("Exit position: stage 2 is best")
    assert found.findings[0].endswith("Importance 0.30.")
    assert "Temperature: not enough trials to tell." in found.findings


def test_untried_and_failed_values_are_reported(
    make_record: RecordMaker, build: Callable[..., Snapshot]
) -> None:
    snapshot = build((2, "fc", 0.1, rising(0.95)))
    assert "stage 1 was not tried; stage 3 was not tried" in lines(snapshot)[1]
    failed = make_record(1, "FAIL", reason="error", parameters={"model.exit_stages": (1,)})
    with_failure = replace(snapshot, records=(*snapshot.records, failed))
    assert "stage 1 had no usable result in 1 trial" in lines(with_failure)[1]


def test_the_headline_of_an_unfinished_search_shows_its_progress(build: Callable[..., Snapshot]) -> None:
    snapshot = build((2, "fc", 0.1, rising(0.95)), num_trials=9, is_over=False)
    assert lines(snapshot)[0].startswith("Best so far (1 of 9 trials ended): exit after stage 2, ")


def test_there_is_no_answer_before_a_trial_is_complete(build: Callable[..., Snapshot]) -> None:
    assert answer(build(), {}) is None
    assert answer(build((2, "fc", 0.1, [0.5])), {}) is None


def test_importance_orders_the_findings_and_is_omitted_for_ties(
    build: Callable[..., Snapshot],
) -> None:
    snapshot = build(
        (2, "fc", 0.1, rising(0.95)), (3, None, 0.1, rising(0.6)), (2, "small", 0.1, rising(0.95))
    )
    found = answer(snapshot, {"model.exit_depth": 0.7, "model.exit_stages": 0.2})
    assert found is not None
    assert found.findings[0].startswith("Exit position: ")
    assert found.findings[0].endswith(" Importance 0.20.")
    assert found.findings[1] == "Sub-network depth hardly matters: fc and small are tied within noise."


def test_the_noise_is_that_of_two_accuracies_on_the_validation_images(build: Callable[..., Snapshot]) -> None:
    share = (0.95 * 287 + 2) / 291
    assert noise(build((2, "fc", 0.1, rising(0.95)))) == pytest.approx(
        1.96 * (2 * share * (1 - share) / 287) ** 0.5, rel=1e-4
    )
    assert noise(build((2, "fc", 0.1, rising(0.95)), data=None)) is None


def test_the_spread_over_seeds_adds_to_the_noise(
    tmp_path: Path, make_record: RecordMaker, make_snapshot: SnapshotMaker
) -> None:
    (tmp_path / "seeds.yaml").write_text(f"{SPACE}confirm: {{top_k: 1, seeds: 3}}\n")
    space = load_space(tmp_path / "seeds.yaml")
    trial = replace(make_record(0), value=0.9, values=(0.9,))
    seeds = [
        replace(make_record(i), confirms=0, seed_index=i + 1, value=v, values=(v,))
        for i, v in enumerate((0.8, 1.0))
    ]
    snapshot = make_snapshot(space, [trial], seeds=tuple(seeds))
    share = (0.9 * 287 + 2) / 291
    expected = 1.96 * (2 * (share * (1 - share) / 287 + 0.01)) ** 0.5
    assert noise(snapshot) == pytest.approx(expected, rel=1e-4)
    assert "val/top1 0.9000 ± 0.1000 over 3 seeds" in lines(snapshot)[0]
    assert (
        f"Differences of up to {expected:.4f} may be due to chance (variation over seeds included)."
        in lines(snapshot)
    )


@pytest.mark.parametrize(("untrained", "is_reported"), [(0.94, True), (0.5, False)])
def test_a_winner_no_better_than_its_untrained_network_is_reported(
    make_record: RecordMaker,
    make_snapshot: SnapshotMaker,
    space: SearchSpace,
    untrained: float,
    is_reported: bool,
) -> None:
    record = make_record(0, parameters={"loss.temperature": 0.1, "model.exit_stages": (3,)})
    first = replace(record.epochs[0], metrics={"val/top1": untrained})
    snapshot = make_snapshot(space, [replace(record, epochs=(first, *record.epochs[1:]))])
    line = f"The best trial does not beat its untrained network ({untrained:.4f}) by more than noise."
    assert (line in lines(snapshot)) == is_reported


def test_a_trial_pruned_while_tied_does_not_extend_the_good_range(
    build: Callable[..., Snapshot],
) -> None:
    good = [(2, "fc", t, rising(0.95)) for t in (0.1, 0.12, 0.15)]
    early = [(2, "fc", t, [0.5]) for t in (0.05, 0.3, 0.45)]
    line = "Temperature: good from 0.1 to 0.15; 3 trials outside were pruned while still tied with the best."
    assert line in lines(build(*good, *early))


def test_the_findings_agree_with_a_confirmed_winner(
    tmp_path: Path, make_record: RecordMaker, make_snapshot: SnapshotMaker
) -> None:
    """The best single value has a low mean over its seeds: it is no better than the winner's mean."""
    (tmp_path / "seeds.yaml").write_text(f"{SPACE}confirm: {{top_k: 2, seeds: 2}}\n")
    space = load_space(tmp_path / "seeds.yaml")

    def trial(number: int, stage: int, value: float, **changes: Any) -> TrialRecord:
        parameters = {"model.exit_stages": (stage,), "loss.temperature": 0.1}
        return replace(make_record(number, parameters=parameters), value=value, values=(value,), **changes)

    trials = [trial(0, 1, 0.95), trial(1, 2, 0.8)]
    seeds = [trial(0, 1, 0.35, confirms=0, seed_index=1), trial(1, 2, 0.82, confirms=1, seed_index=1)]
    found = lines(make_snapshot(space, trials, seeds=tuple(seeds)))
    assert found[0].startswith("Best configuration: exit after stage 2, temperature 0.1; val/top1 0.8100 ±")
    assert not any("stage 1 is best" in line or "stage 2 is behind" in line for line in found)
