"""Every case of bad_spaces.txt through the whole command: one line, exit code 2, and nothing started."""

import json
import re
import sys
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess

import pytest

from tests.project import ROOT
from tune_jobs.__main__ import main

CASES = re.findall(
    r"^## (.+)\n((?:.*\n)*?)>> (.+)$", (ROOT / "tests/bad_spaces.txt").read_text(), re.MULTILINE
)
IDS = [title for title, _, _ in CASES]

# Runs all cases in an interpreter without the heavy packages, and prints exit code and stderr of each.
WITHOUT_HEAVY_PACKAGES = """
import contextlib, io, json, pathlib, sys, time
for package in ("torch", "ray", "optuna", "mlflow", "numpy", "sklearn", "tune_jobs.commands.search"):
    sys.modules[package] = None
import tune_jobs.commands.preflight
from tune_jobs.__main__ import main
tune_jobs.commands.preflight.machine_resources = lambda: {"CPU": 2.0, "GPU": 0.0}
results = []
for text in json.load(sys.stdin):
    pathlib.Path("bad.yaml").write_text(text)
    with contextlib.redirect_stderr(io.StringIO()) as err:
        results.append([main(["--space", "bad.yaml"]), err.getvalue()])
print(json.dumps({"results": results, "seconds": time.process_time()}))
"""
VARIABLES = ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "SELFCON_STUDY_STORAGE")


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine with 2 CPUs on which no search can start, and a folder with files of an earlier search."""
    for variable in VARIABLES:
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("tune_jobs.commands.preflight.machine_resources", lambda: {"CPU": 2.0, "GPU": 0.0})
    monkeypatch.setitem(sys.modules, "tune_jobs.commands.search", None)
    monkeypatch.chdir(tmp_path)
    Path("runs/bad/trials/0000").mkdir(parents=True)
    Path("runs/bad/study.db").write_bytes(b"SQLite format 3\0")
    Path("mlflow.db").write_bytes(b"SQLite format 3\0")


def contents() -> dict[str, bytes | None]:
    """Return every file below the working folder with its bytes, and every folder."""
    return {str(path): path.read_bytes() if path.is_file() else None for path in Path().rglob("*")}


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 190
    assert len(set(IDS)) == len(CASES)


@pytest.mark.parametrize("flags", [[], ["--dry-run"]], ids=["start", "dry run"])
@pytest.mark.parametrize(("text", "line"), [case[1:] for case in CASES], ids=IDS)
def test_an_error_is_one_line_with_its_position_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], text: str, line: str, flags: list[str]
) -> None:
    Path("bad.yaml").write_text(text)
    before = contents()
    assert main(["--space", "bad.yaml", *flags]) == 2
    assert capsys.readouterr() == ("", f"error: bad.yaml:{line}\n")
    assert contents() == before


def test_all_cases_take_seconds_and_no_heavy_package(
    run_python: Callable[..., CompletedProcess[str]], tmp_path: Path
) -> None:
    texts = json.dumps([text for _, text, _ in CASES])
    done = run_python(WITHOUT_HEAVY_PACKAGES, cwd=tmp_path, stdin=texts)
    assert done.stderr == ""
    found = json.loads(done.stdout)
    assert found["results"] == [[2, f"error: bad.yaml:{line}\n"] for _, _, line in CASES]
    assert found["seconds"] < 20
