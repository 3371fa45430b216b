"""The examples that need no search; each runs in a fresh interpreter, as its docstring shows."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.project import ROOT

EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
OWN_DATA = "examples/own_data/own_data.yaml"

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_an_example_shows_its_command_and_is_listed_in_the_readme(path: Path) -> None:
    place = path.relative_to(ROOT)
    assert f"python {place}" in path.read_text().partition('\n"""\n')[0]
    assert f"`{place.relative_to('examples')}" in (ROOT / "examples/README.md").read_text()


def test_train_once_prints_its_epochs_and_saves_an_encoder(tmp_path: Path, run_python: PythonRunner) -> None:
    code = f"import runpy, sys; runpy.run_path({str(ROOT / 'examples/train_once.py')!r}, run_name='__main__')"
    ran = run_python(code, "saved", cwd=tmp_path, environment={"OMP_NUM_THREADS": "1"})
    assert ran.returncode == 0, ran.stderr
    assert re.findall(r"^epoch (\d)", ran.stdout, re.MULTILINE) == ["0", "1", "2", "3", "4"]
    assert float(re.findall(r"test/top1 (\S+)", ran.stdout)[0]) > 0.9
    assert "features (5, 64)" in ran.stdout
    assert (tmp_path / "saved" / "encoder.json").is_file()


def test_the_space_file_of_own_data_accepts_the_written_images(tmp_path: Path) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
    write = [sys.executable, str(ROOT / "examples/own_data/write_images.py")]
    subprocess.run(write, cwd=tmp_path, env=environment, check=True, stdout=subprocess.DEVNULL)
    assert len(list(tmp_path.glob("data/own_digits/*/*/*.png"))) == 1797
    preview = [sys.executable, str(ROOT / "launch.py"), "--space", str(ROOT / OWN_DATA), "--dry-run"]
    ran = subprocess.run(preview, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "data.root                data/own_digits" in ran.stdout
