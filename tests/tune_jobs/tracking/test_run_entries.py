import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tune_jobs.study.records import State, TrialRecord
from tune_jobs.tracking.run_entries import (
    MAX_POINTS_PER_BATCH,
    epoch_batches,
    has_run,
    identity_tags,
    newest_ms,
    run_key,
    run_name,
    run_status,
    run_tags,
    table_view,
)
from tune_jobs.wording import parameter_text

RecordMaker = Callable[..., TrialRecord]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("fc", "fc"),
        (0.1, "0.1"),
        (1e-4, "0.0001"),
        (3, "3"),
        (True, "true"),
        (None, "null"),
        ((1, 2), "[1, 2]"),
    ],
)
def test_parameter_values_are_spelled_as_in_a_space_file(value: object, text: str) -> None:
    assert parameter_text(value) == text


def test_a_run_is_identified_by_its_trial_and_seed(make_record: RecordMaker) -> None:
    trial = make_record(7)
    seed = replace(make_record(0), confirms=7, seed_index=2)
    assert [run_name(record) for record in (trial, seed)] == ["trial-0007", "trial-0007-seed-2"]
    assert [run_key(identity_tags(record)) for record in (trial, seed)] == [("7", "0"), ("7", "2")]
    assert run_key({"mlflow.parentRunId": "of-a-user"}) is None


def test_every_state_has_a_status() -> None:
    assert [run_status(state) for state in State] == ["RUNNING", "FINISHED", "KILLED", "FAILED"]


def test_a_message_is_truncated_to_the_length_of_a_tag(make_record: RecordMaker) -> None:
    record = make_record(0, "FAIL", reason="error", message="x" * 9000)
    assert run_tags(record)["selfcon.message"] == "x" * 8000


def test_each_epoch_is_in_one_batch_in_order(make_record: RecordMaker) -> None:
    record = make_record(0, num_epochs=900)
    batches = list(epoch_batches(record, after=10))
    assert [epoch.epoch for batch in batches for epoch in batch] == list(range(11, 901))
    assert max(sum(len(epoch.metrics) for epoch in batch) for batch in batches) <= MAX_POINTS_PER_BATCH
    assert len(batches) == 4
    assert list(epoch_batches(record, after=900)) == []


def test_an_epoch_with_very_many_metrics_is_a_separate_batch(make_record: RecordMaker) -> None:
    record = make_record(0, num_epochs=1)
    many = replace(record.epochs[1], metrics={f"metric/{n}": 0.0 for n in range(MAX_POINTS_PER_BATCH + 1)})
    record = replace(record, epochs=(record.epochs[0], many))
    assert [len(batch) for batch in epoch_batches(record, after=-1)] == [1, 1]


def test_only_sampled_trials_that_count_have_a_run(make_record: RecordMaker) -> None:
    assert has_run(make_record(0, "RUNNING"))
    assert not has_run(make_record(0, "FAIL", reason="invalid"))
    assert not has_run(replace(make_record(0), config=None))


def test_the_newest_event_is_an_end_or_an_epoch(make_record: RecordMaker) -> None:
    ended, running = make_record(0), make_record(1, "RUNNING")
    assert newest_ms([ended]) == ended.finished_ms
    assert newest_ms([ended, running]) == running.epochs[-1].timestamp_ms


def test_the_table_shows_the_objective_and_the_searched_parameters() -> None:
    view = json.loads(table_view(metric="val/top1", parameters=["b.b", "a.a"]))
    assert view["selectedColumns"][2:5] == ["metrics.`val/top1`", "params.`a.a`", "params.`b.b`"]
    assert view["columnOrder"] == view["selectedColumns"]
    assert view["columnWidths"].keys() == set(view["selectedColumns"])
