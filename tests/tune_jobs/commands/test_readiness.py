from pathlib import Path

import pytest

from launch import main


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
