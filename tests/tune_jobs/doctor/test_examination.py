import re
import subprocess
import venv
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.doctor import examination
from tune_jobs.doctor.check import ROOT, Check
from tune_jobs.doctor.examination import checks, examine
from tune_jobs.doctor.finding import fault, note, ok
from tune_jobs.options import LaunchOptions
from tune_jobs.space import load_space

SPACE = "name: s\nspace: {loss.temperature: {low: 0.1, high: 0.5}}\n"


def names(options: LaunchOptions, space: Any = None) -> list[str]:
    return [check.subject for check in checks(options, space)]


def set_findings(monkeypatch: pytest.MonkeyPatch, *findings: Any) -> None:
    monkeypatch.setattr(examination, "checks", lambda *_: [Check("a", lambda: findings)])


def test_without_a_space_the_installation_and_the_locations_in_the_flags_are_checked() -> None:
    plain = names(LaunchOptions())
    assert plain[:4] == ["packages", "environment", "CPUs and GPUs", "memory"]
    assert plain[-2:] == ["Ray", "MLflow"]
    more = names(LaunchOptions(study_storage="postgresql://h/d", checkpoint_storage="s3://b"))
    assert more[-4:] == ["Ray", "MLflow", "study database", "checkpoints"]


def test_a_space_is_checked_for_the_machine_or_the_cluster(tmp_path: Path) -> None:
    (tmp_path / "s.yaml").write_text(SPACE)
    space = load_space(tmp_path / "s.yaml")
    assert names(LaunchOptions(), space)[:3] == ["space file", "capacity", "data"]
    assert names(LaunchOptions(), space)[-1] == "study database"
    assert names(LaunchOptions(address="auto"), space)[:2] == ["space file", "state"]


@pytest.mark.parametrize(
    ("finding", "code", "count"),
    [
        (ok("x", "fine"), 0, "1 ok, no notes, no faults"),
        (note("x", "odd", "r"), 0, "0 ok, 1 note, no faults"),
        (fault("x", "bad", "r"), 1, "0 ok, no notes, 1 fault"),
    ],
)
def test_only_a_fault_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], finding: Any, code: int, count: str
) -> None:
    set_findings(monkeypatch, finding)
    assert examine(LaunchOptions()) == code
    assert capsys.readouterr().out.splitlines()[-1] == count


def test_each_finding_is_one_aligned_line_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    set_findings(
        monkeypatch, ok("disk", "[red]free"), fault("MLflow", "http://me:secret@host\nis down", "start it")
    )
    examine(LaunchOptions())
    assert capsys.readouterr().out.splitlines()[:2] == [
        "ok     disk              [red]free",
        "fault  MLflow            http://me:***@host is down  -> start it",
    ]


def test_an_invalid_space_is_a_fault_and_other_checks_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    set_findings(monkeypatch, ok("x", "fine"))
    (tmp_path / "s.yaml").write_text(SPACE + "sarch: {}\n")
    assert examine(LaunchOptions(space=tmp_path / "s.yaml")) == 1
    out = capsys.readouterr().out
    assert "fault  space file " in out
    assert "did you mean search?" in out
    assert "ok     x " in out


def test_a_python_without_packages_lists_the_missing_ones(tmp_path: Path) -> None:
    venv.create(tmp_path / "bare")
    command = [str(tmp_path / "bare/bin/python"), str(ROOT / "launch.py"), "--doctor"]
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False, env={}
    )
    assert (done.returncode, done.stderr) == (1, "")
    assert "not installed for this Python: cmaes, jinja2, matplotlib, mlflow, " in done.stdout
    for subject in ("torch", "Ray", "MLflow"):
        assert re.search(rf"^fault  {subject} .*No module named", done.stdout, re.MULTILINE)
    assert "ok     CPUs and GPUs " in done.stdout
    assert "ok     output " in done.stdout
