"""Checks of the image that do not need a container engine."""

import os
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

from tests.project import ROOT

DOCKERFILE = (ROOT / "deploy" / "Dockerfile").read_text()
INSTRUCTIONS = re.findall(r"^([A-Z]+) (.*)$", re.sub(r"\\\n", "", DOCKERFILE), re.MULTILINE)
COPIED = [
    source for name, rest in INSTRUCTIONS if name == "COPY" for source in rest.split()[:-1]
]  # the last word is the destination


def test_the_image_is_installed_with_the_constraints_and_an_existing_extra() -> None:
    (install,) = [rest for name, rest in INSTRUCTIONS if name == "RUN" and "pip install" in rest]
    assert "--constraint constraints.txt" in install
    extra = re.search(r"\.\[(\w+)\]", install)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert extra
    assert extra[1] in project["optional-dependencies"]


def test_only_copied_files_are_sent_to_the_builder() -> None:
    lines = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    assert sorted(line[1:] for line in lines if line.startswith("!")) == sorted(COPIED)


def test_processes_of_the_image_do_not_run_as_root() -> None:
    users = [rest for name, rest in INSTRUCTIONS if name == "USER"]
    assert users == ["1000"]  # a number, because Kubernetes cannot check whether a name is root


def test_the_copied_files_are_sufficient_for_a_dry_run(tmp_path: Path) -> None:
    for source in COPIED:
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copy
        copy(ROOT / source, tmp_path / source)
    result = subprocess.run(
        [sys.executable, "launch.py", "--space", "search_spaces/smoke.yaml", "--dry-run"],
        cwd=tmp_path,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
