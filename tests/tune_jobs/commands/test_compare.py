import re
from pathlib import Path

import pytest

from tests.tune_jobs.searches import train, write_search
from tune_jobs.__main__ import main

SPACE = """
name: {name}
train: {{optim: {{epochs: 2}}}}
space:
  model.exit_stages: {{choices: [[1], [2]]}}
  {more}
"""
TEMPERATURE = "loss.temperature: {low: 0.05, high: 0.5}"
WEIGHT = "loss.exit_weight: {low: 0.1, high: 4.0}"


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three comparable searches, one without a result; one with other data, one with another objective."""
    monkeypatch.setenv("COLUMNS", "150")
    monkeypatch.delenv("SELFCON_STUDY_STORAGE", raising=False)
    values = [0.5 + 0.04 * i for i in range(10)]
    write_search(tmp_path, SPACE.format(name="hot", more=TEMPERATURE), values)
    write_search(tmp_path, SPACE.format(name="heavy", more=WEIGHT), [0.7, 0.8])
    write_search(tmp_path, SPACE.format(name="empty", more=WEIGHT), [])
    write_search(tmp_path, SPACE.format(name="other", more=WEIGHT), [0.7], digest="e" * 64)
    lower = SPACE.format(name="lower", more=WEIGHT) + "objective: {metric: val/top1, direction: minimize}\n"
    write_search(tmp_path, lower, [0.7])
    return tmp_path


def compare(runs: Path, *names: str) -> int:
    return main(["--output", str(runs), "--compare", *names])


def test_searches_are_shown_side_by_side(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(runs, "hot", "heavy") == 0
    lines = [line.strip("│").split("│") for line in capsys.readouterr().out.splitlines()]
    rows = {cells[0].strip(): [cell.strip() for cell in cells[1:]] for cells in lines if len(cells) == 3}
    assert rows["best val/top1"] == ["0.8600 (0.8151 to 0.8954)", "0.8000 (0.7499 to 0.8422)"]
    assert rows["trials"] == ["10 complete", "2 complete"]
    assert rows["training time"] == ["20 min", "4 min"]
    assert rows["trial"] == ["9", "1"]
    assert "(importance " in rows["loss.temperature"][0]
    assert rows["loss.temperature"][1] == "0.1 (fixed)"
    assert rows["loss.exit_weight"][0] == "1 (fixed)"
    assert lines[-1] == ["hot is ahead of heavy by 0.0600, which is within chance (0.0619)"]


def test_a_difference_beyond_chance_is_reported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_search(runs, SPACE.format(name="weak", more=WEIGHT), [0.6])
    assert compare(runs, "hot", "weak") == 0
    assert "hot is ahead of weak by 0.2600, which is more than chance" in capsys.readouterr().out


def test_an_unconfirmed_value_is_flagged_against_a_confirmed_mean(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = SPACE.format(name="sure", more=WEIGHT) + "confirm: {top_k: 1, seeds: 3}\n"
    study = write_search(runs, text, [0.9])
    assert study.confirmation is not None
    for value in (0.7, 0.8):
        train(study.confirmation, value)
    assert compare(runs, "hot", "sure") == 0
    out = " ".join(capsys.readouterr().out.split())
    assert "0.8000 ± 0.1000 over 3 seeds" in out
    assert re.search(r"hot is ahead of sure by 0.0600, which is within chance \(0.2\d+\)", out)
    assert "; hot was not confirmed over seeds" in out


def test_a_difference_within_chance_is_reported(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_search(runs, SPACE.format(name="close", more=WEIGHT), [0.85])
    assert compare(runs, "close", "hot", "empty") == 0
    assert "hot is ahead of close by 0.0100, which is within chance" in capsys.readouterr().out


def test_a_single_result_is_not_compared(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert compare(runs, "heavy", "empty") == 0
    assert "fewer than two of the searches have a completed, feasible trial" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["hot", "other"],
         "expected searches with the same data as hot (dddddddddddd), got eeeeeeeeeeee of other"),
        (["hot", "lower"],
         "expected searches with the same objective as hot (maximize val/top1), got minimize"),
        (["hot", "heavi"], "expected a search that was started, in {runs}, got heavi (did you mean heavy?)"),
        (["hot"], "expected the names of two searches or more, got hot"),
        ([], "expected at least one argument"),
    ],
)  # fmt: skip
def test_incomparable_searches_are_refused_in_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], names: list[str], message: str
) -> None:
    assert compare(runs, *names) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: --compare: {message.format(runs=runs)}")
