from collections.abc import Callable
from dataclasses import replace

import pytest

from tune_jobs.commands.drift import changes, compare, launch_of
from tune_jobs.study.records import EpochRecord, Reason, TrialRecord
from tune_jobs.study.snapshot import Launch

RecordMaker = Callable[..., TrialRecord]
LAUNCH = Launch(1, 100, 200, "a" * 40, {"selfcon.version.torch": "2.9", "selfcon.system": "Linux"})


def changed(record: TrialRecord, epoch: int, metric: str, by: float) -> TrialRecord:
    epochs = list(record.epochs)
    found = epochs[epoch]
    metrics = {**found.metrics, metric: found.metrics[metric] + by}
    epochs[epoch] = EpochRecord(epoch, metrics, found.timestamp_ms, attempt=1)
    return replace(record, epochs=tuple(epochs))


def test_identical_values_are_reproduced_regardless_of_cost(make_record: RecordMaker) -> None:
    record = make_record(7)
    found = compare(record, changed(record, 2, "cost/seconds", 5.0))
    assert not found.drifted
    assert found.lines() == ["reproduced: 7 values of 4 epochs are identical"]


@pytest.mark.parametrize(("by", "drifted"), [(1e-7, False), (1e-3, True), (-1e-3, True)])
def test_rounding_is_not_a_drift(make_record: RecordMaker, by: float, drifted: bool) -> None:
    record = make_record(7)
    found = compare(record, changed(record, 2, "val/top1", by))
    assert found.drifted == drifted
    (difference,) = found.differences
    assert (difference.epoch, difference.metric) == (2, "val/top1")
    assert difference.size == pytest.approx(abs(by))


def test_the_first_and_the_largest_difference_are_reported(make_record: RecordMaker) -> None:
    record = make_record(7)
    retrained = changed(changed(record, 1, "val/top1", 0.01), 3, "train/loss", -0.5)
    first, largest = compare(record, retrained).lines()[1:]
    assert first == "  first difference: val/top1 in epoch 1: 0.913, recorded 0.903"
    assert largest == "  largest difference: train/loss in epoch 3: 6.8, recorded 7.3"
    assert compare(record, retrained).last_difference("val/top1") == 0.0


def test_a_different_final_state_is_a_drift(make_record: RecordMaker) -> None:
    record = make_record(7, "PRUNED", num_epochs=2, reason=Reason.RUNG)
    found = compare(record, make_record(7, "FAIL", num_epochs=2, reason=Reason.OUT_OF_MEMORY))
    assert found.drifted
    assert found.lines()[1] == "  final state: failed (out of memory), recorded pruned after epoch 2"


def test_differences_in_the_environment_are_listed() -> None:
    environment = {"selfcon.version.torch": "2.10", "selfcon.system": "Linux", "selfcon.version.ray": "2.60"}
    found = changes(LAUNCH, environment=environment, commit="b" * 40, workers=({1}, {2}))
    assert found == [
        "code: commit bbbbbbbbbbbb, recorded with commit aaaaaaaaaaaa",
        "ray: 2.60, recorded with none",
        "torch: 2.10, recorded with 2.9",
        "workers: 2, recorded with 1",
    ]
    assert changes(LAUNCH, environment=LAUNCH.environment, commit="a" * 40, workers=({1}, {1})) == []
    assert "does not record" in changes(None, environment={}, commit=None, workers=({1}, {1}))[0]


def test_uncommitted_changes_are_reported_at_the_same_commit() -> None:
    launch = replace(LAUNCH, commit=f"{'a' * 40}-dirty")
    (line,) = changes(launch, environment=LAUNCH.environment, commit=launch.commit, workers=({1}, {1}))
    assert line == "code: commit aaaaaaaaaaaa with changes, recorded with commit aaaaaaaaaaaa with changes"


def test_a_trial_belongs_to_the_launch_of_its_last_epoch(make_record: RecordMaker) -> None:
    record = make_record(0)
    end = record.epochs[-1].timestamp_ms
    launches = [replace(LAUNCH, number=n, started_ms=at) for n, at in ((1, 0), (2, end - 1), (3, end + 1))]
    assert launch_of(record, launches) == launches[1]
    assert launch_of(record, launches[2:]) is None


def test_a_missing_value_is_a_drift(make_record: RecordMaker) -> None:
    record = make_record(7)
    cut = replace(record, epochs=record.epochs[:2])
    found = compare(record, cut)
    assert found.drifted
    assert found.lines()[:2] == [
        "drift: 0 of 3 values of 2 epochs differ",
        "  4 recorded values were not reported this time",
    ]
    nothing = compare(record, replace(record, epochs=()))
    assert nothing.lines()[0] == "drift: no reported value can be compared"
