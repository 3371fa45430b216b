"""Studies, checkpoints, and MLflow records that version 0.1 wrote are used by this one."""

from pathlib import Path

import pytest

from selfcon.config import TrainConfig
from tests.earlier_versions import unpack
from tune_jobs.__main__ import main
from tune_jobs.checkpoints.store import open_store
from tune_jobs.checkpoints.trial_checkpoints import load_state, newest_valid
from tune_jobs.study.records import State
from tune_jobs.study.snapshot import Snapshot, read_snapshot
from tune_jobs.study.store import open_database


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(unpack(tmp_path))
    return tmp_path


def snapshot_of(folder: Path, name: str) -> Snapshot:
    database = open_database(f"sqlite:///{folder}/runs/{name}/study.db")
    try:
        return read_snapshot(database, f"version-0-1/{name}")
    finally:
        database.close()


def test_a_study_is_read_whole(earlier: Path) -> None:
    done, killed = snapshot_of(earlier, "done"), snapshot_of(earlier, "killed")
    states = [record.state for record in done.records]
    assert (states.count(State.COMPLETE), states.count(State.PRUNED)) == (2, 3)
    assert [record.label for record in done.seeds] == ["3-seed-1", "1-seed-1"]
    assert (done.is_over, killed.is_over) == (True, False)
    assert done.winner is not None
    assert done.publication is not None
    assert done.publication["trial"] == done.winner.number == 3
    assert [record.state for record in killed.records][-1] == State.RUNNING
    assert killed.records[-1].last_epoch == 2
    assert all(record.config and record.attempts_started_ms for record in killed.records)


@pytest.mark.parametrize("name", ["done", "killed"])
def test_a_report_is_made_from_the_study(
    earlier: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    assert main(["--space", f"{name}.yaml", "--report"]) == 0
    assert f"files: runs/{name}" in capsys.readouterr().out
    assert (earlier / "runs" / name / "report.html").stat().st_size > 1_000_000


@pytest.mark.usefixtures("earlier")
def test_searches_are_compared(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--compare", "done", "killed"]) == 0
    assert "killed is ahead of done by" in " ".join(capsys.readouterr().out.split())


def test_a_checkpoint_is_valid_and_holds_the_state_of_its_run(earlier: Path) -> None:
    store, trial = open_store(str(earlier / "runs/killed")), snapshot_of(earlier, "killed").records[-1]
    name = newest_valid(store, trial.name)
    assert name == "0004-a1"  # its launcher died before it recorded the epochs 3 and 4
    assert trial.config is not None
    state = load_state(store, trial.name, name, config=TrainConfig.from_flat(trial.config))
    assert (state.epoch, len(state.history)) == (4, 5)
    assert [metrics["val/top1"] for metrics in state.history[:3]] == [
        epoch.metrics["val/top1"] for epoch in trial.epochs
    ]
