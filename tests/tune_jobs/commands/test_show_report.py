import sqlite3
from pathlib import Path

import pytest

from tests.tune_jobs.searches import train, write_search
from tune_jobs.__main__ import main
from tune_jobs.space import load_space

SPACE = """
name: shown
train: {data: {dataset: imagenet, root: /not/there}, optim: {epochs: 1}}
space: {loss.temperature: {low: 0.05, high: 0.5}}
search: {num_trials: 3}
"""


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SELFCON_STUDY_STORAGE", raising=False)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def report(runs: Path) -> int:
    return main(["--space", str(runs / "space.yaml"), "--output", str(runs), "--report"])


def test_a_search_is_reported_from_its_study_alone_also_while_it_runs(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    study = write_search(runs, SPACE, [0.7, 0.9])
    study.set_num_trials(3)
    running = study.next_attempt()
    assert running is not None
    before = study.records()
    assert report(runs) == 0
    out, err = capsys.readouterr()
    assert err == ""
    assert "Best so far (2 of 3 trials ended): temperature " in out
    assert "running: 1: trial 2" in out
    folder = runs / "shown"
    assert load_space(folder / "best.yaml").name == "shown-best"
    assert (folder / "trials.csv").read_text().startswith("trial,state,")
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]
    study.interrupt_attempt(running.number, running.attempt)
    assert study.records() == before  # the report changed nothing in the study
    train(study, 0.8)
    study.record_end()
    assert report(runs) == 0
    assert "Best configuration: temperature 0." in capsys.readouterr().out


def test_a_search_that_was_never_started_cannot_be_reported(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (runs / "space.yaml").write_text(SPACE)
    assert report(runs) == 2
    assert capsys.readouterr().err == (
        f"error: --report: expected a search that was started, got no study in {runs}/shown\n"
    )
    assert [path.name for path in runs.iterdir()] == ["space.yaml"]


def test_a_damaged_study_is_a_storage_error(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "space.yaml").write_text(SPACE)
    (runs / "shown").mkdir()
    (runs / "shown" / "study.db").write_text("no database, but text of some length" * 100)
    assert report(runs) == 6
    assert "the study's database cannot be used" in capsys.readouterr().err


def test_a_report_does_not_wait_for_the_lock_of_a_launcher(runs: Path) -> None:
    write_search(runs, SPACE, [0.7])
    writer = sqlite3.connect(runs / "shown" / "study.db")
    writer.execute("BEGIN IMMEDIATE")  # like a launcher in the middle of a write
    assert report(runs) == 0
    writer.close()


def test_a_report_or_comparison_creates_no_database(runs: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (runs / "space.yaml").write_text(SPACE)
    for flags in (["--report", "--space", str(runs / "space.yaml")], ["--compare", "shown", "other"]):
        assert main([*flags, "--study-storage", f"sqlite:///{runs}/none.db"]) == 2
        assert capsys.readouterr().err.startswith(f"error: {flags[0]}: expected a search that was started")
    assert sorted(path.name for path in runs.iterdir()) == ["space.yaml"]


def test_files_that_cannot_be_written_are_reported_after_the_result(
    runs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write_search(runs, SPACE, [0.7])
    (runs / "shown" / "report.html").mkdir()
    assert report(runs) == 0
    out, err = capsys.readouterr()
    assert "val/top1 0.7000" in out
    assert err.startswith(f"note: {runs}/shown/report.html could not be written: ")
    assert (runs / "shown" / "trials.csv").is_file()
