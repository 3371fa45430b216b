import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.provenance import commit_of_source


@pytest.fixture
def git(require_program: Callable[[str], str]) -> Callable[..., str]:
    program = require_program("git")

    def run(folder: Path, *arguments: str) -> str:
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        done = subprocess.run(
            [program, "-C", str(folder), *identity, *arguments], capture_output=True, text=True, check=True
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


def test_the_commit_is_the_head_of_the_repository(repository: Path, git: Callable[..., str]) -> None:
    assert commit_of_source(repository) == git(repository, "rev-parse", "HEAD")


def test_changed_files_are_marked_dirty_and_new_ones_are_ignored(
    repository: Path, git: Callable[..., str]
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "notes.txt").touch()
    assert commit_of_source(repository) == commit
    (repository / "code.py").write_text("two")
    assert commit_of_source(repository) == f"{commit}-dirty"


def test_a_folder_inside_another_repository_has_no_commit(repository: Path) -> None:
    (repository / "site-packages").mkdir()
    assert commit_of_source(repository / "site-packages") is None


def test_a_folder_without_git_has_no_commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_of_source(tmp_path) is None
    monkeypatch.setenv("PATH", str(tmp_path))
    assert commit_of_source(tmp_path) is None
