from pathlib import Path

import pytest

from tests.tune_jobs.searches import write_search
from tune_jobs.__main__ import main


def test_a_study_in_mlflows_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("space: {loss.temperature: {low: 0.05, high: 0.5}}\n")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    flags = ["--space", "space.yaml", "--name", "new", "--study-storage", "sqlite:///mlflow.db"]
    assert main(flags) == 2  # MLflow's default, given by its absolute path
    assert capsys.readouterr().err == (
        "error: --study-storage: expected a separate database, because its tables conflict with MLflow's,"
        " got sqlite:///mlflow.db, which is MLflow's\n"
    )
    assert not (tmp_path / "mlflow.db").exists()


SPACE = """
name: existing
train: {data: {dataset: folder, root: images}}
space: {loss.temperature: {low: 0.05, high: 0.5}}
"""


def test_a_changed_setting_is_refused_before_data_and_mlflow_are_accessed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_search(tmp_path / "runs", SPACE, [0.5])
    (tmp_path / "images").mkdir()  # contains no images
    (tmp_path / "space.yaml").write_text(SPACE.replace("0.5", "0.6"))
    flags = ["--space", "space.yaml", "--tracking-uri", "http://127.0.0.1:9"]  # no server listens there
    assert main(flags) == 2
    assert capsys.readouterr().err == (
        "error: space.loss.temperature: expected [{low: 0.05, high: 0.5}], as when existing was"
        " started, got [{low: 0.05, high: 0.6}] (use another --name to start a new search)\n"
    )
    (tmp_path / "space.yaml").write_text(SPACE)
    assert main(flags) == 2  # the settings match the search, so the data are read
    assert "data.root: expected a folder with train/<class>/" in capsys.readouterr().err
