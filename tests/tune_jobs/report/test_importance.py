from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tune_jobs.report.findings import answer
from tune_jobs.report.importance import MIN_TRIALS, ordered, parameter_importance
from tune_jobs.report.page.page import report_page
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

RecordMaker = Callable[..., TrialRecord]
SnapshotMaker = Callable[..., Snapshot]
SPACE = """
name: importance
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature:
    - {low: 0.05, high: 0.2, when: {model.exit_stages: [[1]]}}
    - {low: 0.05, high: 0.5, log: true}
  loss.exit_weight: {low: 0.1, high: 4.0}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "importance.yaml").write_text(SPACE)
    return load_space(tmp_path / "importance.yaml")


def search(
    make_record: RecordMaker, count: int, value: Callable[[dict[str, Any]], float], state: str = "COMPLETE"
) -> list[TrialRecord]:
    rng, records = np.random.default_rng(0), []
    for number in range(count):
        stage = int(rng.integers(1, 4))
        parameters: dict[str, Any] = {
            "model.exit_stages": (stage,),
            "loss.temperature": float(rng.uniform(0.05, 0.2)),
            "loss.exit_weight": float(rng.uniform(0.1, 4.0)),
            **({"model.exit_depth": str(rng.choice(["fc", "small"]))} if stage < 3 else {}),
        }
        record = make_record(number, state, parameters=parameters)
        found = value(parameters)
        records.append(replace(record, value=found, values=(found,)))
    return records


def test_the_decisive_parameter_has_the_largest_share(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace
) -> None:
    records = search(make_record, 60, lambda p: -abs(p["loss.exit_weight"] - 2.0))
    found = parameter_importance(make_snapshot(space, records))
    assert next(iter(found)) == "loss.exit_weight"
    assert found["loss.exit_weight"] > 0.5
    assert sum(found.values()) == pytest.approx(1.0)
    assert set(found) == set(space.parameters)


def test_lower_values_are_better_if_the_objective_is_minimised(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace
) -> None:
    records = search(make_record, 60, lambda p: abs(p["loss.exit_weight"] - 2.0))
    minimize = space.objective.model_copy(update={"direction": "minimize"})
    found = parameter_importance(make_snapshot(space, records, objectives=(minimize,)))
    assert found["loss.exit_weight"] > 0.5


def test_pruned_trials_rank_behind_complete_ones(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace
) -> None:
    pruned = [make_record(n, "PRUNED", num_epochs=e, reason="rung") for n, e in ((0, 1), (1, 3), (2, 2))]
    snapshot = make_snapshot(space, [*pruned, make_record(3), make_record(4, "FAIL", reason="error")])
    assert [record.number for record in ordered(snapshot)] == [3, 1, 2, 0]


def test_few_or_equal_trials_have_no_importance(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace
) -> None:
    few = search(make_record, MIN_TRIALS - 1, lambda p: p["loss.exit_weight"])
    assert parameter_importance(make_snapshot(space, few)) == {}
    equal = search(make_record, 20, lambda _: 0.5)
    assert parameter_importance(make_snapshot(space, equal)) == {}


def test_a_linear_and_a_logarithmic_range_of_one_parameter_are_supported(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, tmp_path: Path
) -> None:
    text = """
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature: {low: 0.05, high: 0.5}
  loss.exit_weight:
    - {low: 0.01, high: 1.0, log: true, when: {model.exit_stages: [[1]]}}
    - {low: 0.0, high: 4.0}
"""
    (tmp_path / "mixed.yaml").write_text(text)
    records = search(make_record, 20, lambda p: p["loss.exit_weight"] / 10)
    zero = replace(records[0], parameters={**records[0].parameters, "loss.exit_weight": 0.0})
    snapshot = make_snapshot(load_space(tmp_path / "mixed.yaml"), [zero, *records[1:]])
    assert parameter_importance(snapshot)["loss.exit_weight"] > 0.3
    assert answer(snapshot, {}) is not None
    assert b"<html" in report_page(snapshot)
