"""Every mistake of bad_spaces.txt through the whole command: one line, exit code 2, and nothing started."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]
CASES = re.findall(
    r"^## (.+)\n((?:.*\n)*?)>> (.+)$", (ROOT / "tests/bad_spaces.txt").read_text(), re.MULTILINE
)


@pytest.fixture(scope="module")
def launch() -> ModuleType:
    spec = importlib.util.spec_from_file_location("launch", ROOT / "launch.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A machine of 2 CPUs on which no search can be started, and an empty folder to work in."""
    for variable in ("RAY_ADDRESS", "MLFLOW_TRACKING_URI", "SELFCON_STUDY_STORAGE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr("tune_jobs.preflight.machine_resources", lambda: {"CPU": 2.0, "GPU": 0.0})
    monkeypatch.setitem(sys.modules, "tune_jobs.search", None)
    monkeypatch.chdir(tmp_path)


def test_there_are_many_cases() -> None:
    assert len(CASES) >= 100
    assert len({title for title, _, _ in CASES}) == len(CASES)


@pytest.mark.parametrize(("text", "line"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_a_mistake_is_one_line_with_its_place(
    launch: ModuleType, capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    path = Path("bad.yaml")
    path.write_text(text)
    assert launch.main(["--space", "bad.yaml"]) == 2
    assert capsys.readouterr() == ("", f"error: bad.yaml:{line}\n")
    assert (list(Path.cwd().iterdir()), path.read_text()) == ([path.absolute()], text)


@pytest.mark.parametrize(("text", "line"), [case[1:] for case in CASES], ids=[case[0] for case in CASES])
def test_the_dry_run_refuses_the_same(
    launch: ModuleType, capsys: pytest.CaptureFixture[str], text: str, line: str
) -> None:
    Path("bad.yaml").write_text(text)
    assert launch.main(["--space", "bad.yaml", "--dry-run"]) == 2
    assert capsys.readouterr() == ("", f"error: bad.yaml:{line}\n")
