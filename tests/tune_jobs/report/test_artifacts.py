import csv
import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import yaml
from PIL import Image

from selfcon.config import TrainConfig
from selfcon.evaluation.confusion import Confusion
from tune_jobs.report import figures
from tune_jobs.report.artifacts import trial_files
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

RecordMaker = Callable[..., TrialRecord]
SnapshotMaker = Callable[..., Snapshot]

CLASSES = ("ant", "bee", "cow, or calf")
CONFUSION = {"epoch": 3, "totals": [4, 3, 2], "correct": [3, 3, 0], "pairs": [[2, 0, 2], [0, 1, 1]]}


def rows_of(content: bytes) -> list[list[str]]:
    return list(csv.reader(io.StringIO(content.decode())))


def size_of(content: bytes) -> tuple[int, int]:
    return Image.open(io.BytesIO(content)).size


def test_a_trial_has_its_configuration_exits_and_confusion_matrix(make_record: RecordMaker) -> None:
    record = replace(make_record(7), confusion=CONFUSION)
    files = trial_files(record, CLASSES)
    assert list(files) == [
        "config.yaml", "exits.png", "confusion_matrix.png", "confusion_matrix.csv",
    ]  # fmt: skip
    assert record.config is not None
    config = TrainConfig.from_mapping(yaml.safe_load(files["config.yaml"]))
    assert config == TrainConfig.from_flat(record.config)
    assert all(min(size_of(files[name])) > 100 for name in files if name.endswith(".png"))
    table = rows_of(files["confusion_matrix.csv"])
    assert table[1:4] == [
        ["ant", "ant", "3", "4"],
        ["bee", "bee", "3", "3"],
        ["cow, or calf"] * 2 + ["0", "2"],
    ]
    assert table[4:] == [["cow, or calf", "ant", "2", "2"], ["ant", "bee", "1", "4"]]


def test_equal_records_make_equal_files(make_record: RecordMaker) -> None:
    record = replace(make_record(7), confusion=CONFUSION)
    assert trial_files(record, CLASSES) == trial_files(record, CLASSES)


def test_a_trial_that_failed_before_its_first_epoch_has_its_configuration(make_record: RecordMaker) -> None:
    record = replace(make_record(2, "FAIL", num_epochs=0, reason="error"), epochs=())
    assert list(trial_files(record, CLASSES)) == ["config.yaml"]


def test_very_many_classes_have_only_a_table(make_record: RecordMaker) -> None:
    confusion = Confusion(totals=(1,) * 101, correct=(1,) * 101, pairs=()).as_json()
    record = replace(make_record(7), confusion={"epoch": 3, **confusion})
    names = list(trial_files(record, [f"class {number}" for number in range(101)]))
    assert "confusion_matrix.csv" in names
    assert "confusion_matrix.png" not in names


@pytest.mark.filterwarnings("error")
def test_unusual_class_names_are_supported(make_record: RecordMaker) -> None:
    record = replace(make_record(7), confusion=CONFUSION)
    for names in (("$1_$5", "{", "a\\b"), ("猫", "犬", "鳥"), ("a\nb", "", "x" * 300)):
        files = trial_files(record, names)
        assert "confusion_matrix.png" in files
        assert rows_of(files["confusion_matrix.csv"])[1][0] == names[0]


def test_a_file_that_cannot_be_generated_is_replaced_by_its_error(
    make_record: RecordMaker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.report.figures.exits_accuracies", lambda _record: 1 / 0)
    files = trial_files(make_record(7), CLASSES)
    assert list(files) == ["config.yaml", "exits.png.txt"]
    assert files["exits.png.txt"].startswith(b"exits.png could not be generated: ZeroDivision")


def test_shares_are_relative_to_the_class_if_pairs_are_omitted(monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[float] = []

    def record_shares(_axes: object, _counts: object, shares: Any) -> None:
        shown.append(float(shares[0, 0]))

    monkeypatch.setattr(figures, "_write_counts", record_shares)
    confusion = Confusion(totals=(10, 10), correct=(4, 10), pairs=())  # six wrong predictions are not listed
    assert figures.confusion_matrix(confusion, ("a", "b"), title="") is not None
    assert shown == [0.4]
