import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.provenance import commit_of_source


@pytest.fixture
def git(require_program: Callable[[str], str]) -> Callable[..., str]:
    program = require_program("git")

    def run(folder: Path, *arguments: str) -> str:
        who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            [program, "-C", str(folder), *who, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    return run


@pytest.fixture
def repository(git: Callable[..., str], tmp_path: Path) -> Path:
    folder = tmp_path.resolve() / "project"
    folder.mkdir()
    (folder / "code.py").write_text("one")
    git(folder, "init")
    git(folder, "add", ".")
    git(folder, "commit", "-m", "first")
    return folder


def test_the_commit_is_gits(repository: Path, git: Callable[..., str]) -> None:
    assert commit_of_source(repository) == git(repository, "rev-parse", "HEAD")


def test_changed_files_are_told_and_new_ones_do_not_matter(repository: Path, git: Callable[..., str]) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "notes.txt").touch()
    assert commit_of_source(repository) == commit
    (repository / "code.py").write_text("two")
    assert commit_of_source(repository) == f"{commit}-dirty"


def test_a_folder_inside_somebody_elses_repository_has_no_commit(repository: Path) -> None:
    (repository / "site-packages").mkdir()
    assert commit_of_source(repository / "site-packages") is None


def test_a_folder_without_git_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_of_source(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of_source(tmp_path) is None
