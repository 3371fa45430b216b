"""Checks of `--reproduce` before anything is trained; test_search.py covers the training."""

from pathlib import Path

import pytest

from tests.tune_jobs.searches import write_search
from tune_jobs.__main__ import main

SPACE = """
name: again
train: {data: {dataset: digits}, model: {width: 4}, optim: {epochs: 1}}
space: {loss.temperature: {low: 0.05, high: 0.5}}
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A search with one finished trial, recorded with another data digest than the current data have."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SELFCON_STUDY_STORAGE", raising=False)
    write_search(tmp_path, SPACE, [0.7])
    return tmp_path


def reproduce(runs: Path, number: int, *more: str) -> int:
    return main(
        ["--space", str(runs / "space.yaml"), "--output", str(runs), "--reproduce", str(number), *more]
    )


def test_changed_data_are_reported_as_a_drift_before_training(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(runs.rglob("*"))
    assert reproduce(runs, 0) == 1
    out, err = capsys.readouterr()
    assert out.startswith("drift: data: the digest is ")
    assert out.endswith(f", recorded with {'d' * 12}; nothing was trained\n")
    assert err == ""
    assert sorted(runs.rglob("*")) == before


@pytest.mark.parametrize(
    ("number", "more", "message"),
    [
        (5, (), "--reproduce: expected a trial that ended (0), got 5"),
        (
            0,
            ("--set", "train.optim.epochs=2"),
            "train.optim.epochs: expected 1, as when again was started, got 2",
        ),
        (0, ("--name", "other"), "--reproduce: expected a search that was started, got no study in "),
    ],
)  # fmt: skip
def test_an_invalid_reproduction_is_refused_in_one_line(
    runs: Path, capsys: pytest.CaptureFixture[str], number: int, more: tuple[str, ...], message: str
) -> None:
    assert reproduce(runs, number, *more) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert err.startswith(f"error: {message}")
