from pathlib import Path

import pytest

from tests.tune_jobs.searches import write_search
from tune_jobs.__main__ import main


def test_a_search_whose_study_lies_in_mlflows_database_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "space.yaml").write_text("space: {loss.temperature: {low: 0.05, high: 0.5}}\n")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    flags = ["--space", "space.yaml", "--name", "new", "--study-storage", "sqlite:///mlflow.db"]
    assert main(flags) == 2  # MLflow's own default, by its absolute path
    assert capsys.readouterr().err == (
        "error: --study-storage: expected a database of its own, as its tables and MLflow's do not go"
        " together, got sqlite:///mlflow.db, MLflow's\n"
    )
    assert not (tmp_path / "mlflow.db").exists()


SPACE = """
name: begun
train: {data: {dataset: folder, root: images}}
space: {loss.temperature: {low: 0.05, high: 0.5}}
"""


def test_a_changed_setting_is_refused_before_data_are_read_or_mlflow_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_search(tmp_path / "runs", SPACE, [0.5])
    (tmp_path / "images").mkdir()  # without a single image
    (tmp_path / "space.yaml").write_text(SPACE.replace("0.5", "0.6"))
    flags = ["--space", "space.yaml", "--tracking-uri", "http://127.0.0.1:9"]  # where nobody listens
    assert main(flags) == 2
    assert capsys.readouterr().err == (
        "error: space.loss.temperature: expected [{low: 0.05, high: 0.5}], as when begun was"
        " started, got [{low: 0.05, high: 0.6}] (another --name makes it another search)\n"
    )
    (tmp_path / "space.yaml").write_text(SPACE)
    assert main(flags) == 2  # the settings are those of the search, so the data are read
    assert "data.root: expected a folder with train/<class>/" in capsys.readouterr().err
