import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from selfcon.config import TrainConfig
from tune_jobs.report.files import report_files, write_files
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

RecordMaker = Callable[..., TrialRecord]
SnapshotMaker = Callable[..., Snapshot]
SPACE = """
name: exits
space: {loss.temperature: {low: 0.05, high: 0.5}, model.exit_stages: {choices: [[1], [2, 3]]}}
trial: {num_workers: [1, 2], cpus_per_worker: 1}
"""


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "exits.yaml").write_text(SPACE)
    return load_space(tmp_path / "exits.yaml")


def test_a_search_has_a_report_a_winner_and_a_table(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace, tmp_path: Path
) -> None:
    parameters = {"loss.temperature": 0.3, "model.exit_stages": (2, 3)}
    records = [
        make_record(0, parameters={"loss.temperature": 0.05, "model.exit_stages": (1,)}),
        make_record(1, "PRUNED", num_epochs=2, reason="rung"),
        make_record(2, num_epochs=4, parameters=parameters),
        make_record(3, "FAIL", num_epochs=1, reason="invalid"),
    ]
    write_files(tmp_path, report_files(make_snapshot(space, records)))
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "best.yaml", "exits.yaml", "report.html", "trials.csv",
    ]  # fmt: skip
    header, *rows = csv.reader((tmp_path / "trials.csv").read_text().splitlines())
    assert [row[header.index("trial")] for row in rows] == [
        "0",
        "1",
        "2",
    ]  # only trials that count
    assert [row[header.index("state")] for row in rows] == ["COMPLETE", "PRUNED", "COMPLETE"]
    assert rows[2][header.index("model.exit_stages")] == "[2, 3]"
    assert float(rows[2][header.index("val/top1")]) == records[2].epochs[-1].metrics["val/top1"]
    best = load_space(tmp_path / "best.yaml")
    (combination,) = best.tree.combinations(["seed"])
    assert records[2].config is not None
    assert best.resolve(combination) == TrainConfig.from_flat(records[2].config)
    assert (best.name, best.trial, best.tracking) == ("exits-best", space.trial, space.tracking)
    assert best.description == "Best trial of the search exits: trial 2."
    running = report_files(make_snapshot(space, records, is_over=False))["best.yaml"].decode()
    assert "description: 'Best trial of the search exits so far: trial 2.'" in running


def test_a_search_without_a_complete_trial_has_no_winner(
    make_record: RecordMaker, make_snapshot: SnapshotMaker, space: SearchSpace
) -> None:
    records = [make_record(0, "FAIL", num_epochs=1, reason="error")]
    assert list(report_files(make_snapshot(space, records))) == ["report.html", "trials.csv"]


def test_an_existing_file_is_replaced_atomically(tmp_path: Path) -> None:
    write_files(tmp_path / "new", {"trials.csv": b"a longer one"})
    write_files(tmp_path / "new", {"trials.csv": b"short"})
    assert [(path.name, path.read_bytes()) for path in (tmp_path / "new").iterdir()] == [
        ("trials.csv", b"short")
    ]


def test_an_error_file_replaces_the_old_file_and_is_reported(tmp_path: Path) -> None:
    assert write_files(tmp_path, {"report.html": b"old"}) == []
    assert write_files(tmp_path, {"report.html.txt": b"report.html could not be generated: x\n"}) == [
        "note: report.html could not be generated: x"
    ]
    assert [path.name for path in tmp_path.iterdir()] == ["report.html.txt"]
    write_files(tmp_path, {"report.html": b"new"})
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
