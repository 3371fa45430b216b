import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.errors import AlreadyRunningError, BadInputError, StorageError
from tune_jobs.study.database.database import Database, held
from tune_jobs.study.store import StudyStore, open_database


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "study.db"


@pytest.fixture
def database(path: Path) -> Database:
    return open_database(f"sqlite:///{path}")


def store_of(database: Database) -> StudyStore:
    return StudyStore(database, name="e/s", directions=["maximize"])


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:x?uri=true"])
def test_a_sqlite_database_must_be_a_file(url: str) -> None:
    with pytest.raises(BadInputError, match=r"expected the path of a file, sqlite:///FILE, got sqlite:"):
        open_database(url)


def test_two_launchers_cannot_use_one_study_from_different_folders(tmp_path: Path, path: Path) -> None:
    (tmp_path / "link.db").symlink_to(path)
    other = open_database(f"sqlite:///{tmp_path}/link.db")
    with held(open_database(f"sqlite:///{path}"), study="e/s", folder=tmp_path / "one"):
        with (
            pytest.raises(AlreadyRunningError, match=r"\(it holds .*/study\.db\.e\+s\.lock\)"),
            held(other, study="e/s", folder=tmp_path / "two"),
        ):
            pytest.fail("the lock was acquired twice")
        with held(other, study="e/another", folder=tmp_path / "two"):  # another search may share the file
            pass
    with held(other, study="e/s", folder=tmp_path / "two"):
        pass


def test_two_launchers_cannot_use_one_folder_with_different_databases(tmp_path: Path) -> None:
    first, second = (open_database(f"sqlite:///{tmp_path}/{name}.db") for name in "ab")
    with (
        held(first, study="e/s", folder=tmp_path),
        pytest.raises(AlreadyRunningError, match=r"\(it holds .*/launcher\.lock\)"),
        held(second, study="e/s", folder=tmp_path),
    ):
        pytest.fail("the lock was acquired twice")


def remove(path: Path) -> None:
    path.unlink()


def replace(path: Path) -> None:
    """Replace the file with an identical copy, which differs only in its inode."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.replace(path)


@pytest.mark.parametrize("change", [remove, replace])
def test_a_removed_or_replaced_file_is_a_storage_error(
    path: Path, database: Database, change: Callable[[Path], None]
) -> None:
    store = store_of(database)
    store.check()
    change(path)
    before = path.read_bytes() if path.exists() else None
    for use in (store.check, lambda: store.set_attribute("a", 1), store.trials):
        with pytest.raises(StorageError, match=rf"^{path}: the study's database was removed or replaced"):
            use()
    assert (path.read_bytes() if path.exists() else None) == before


def test_a_closed_database_cannot_be_used(database: Database) -> None:
    store = store_of(database)
    database.close()
    with pytest.raises(StorageError):
        store.set_attribute("a", 1)


def test_a_file_that_is_not_a_database_is_refused_and_not_changed(path: Path, database: Database) -> None:
    path.write_text("text " * 1000)
    with pytest.raises(StorageError, match=rf"^{path}: the study's database cannot be used: file is not a"):
        store_of(database)
    assert path.read_text() == "text " * 1000


def test_a_damaged_database_is_refused_and_not_changed(path: Path, database: Database) -> None:
    store_of(database).set_attribute("a", 1)
    database.close()
    content = bytearray(path.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)  # all pages except the one with the schema
    path.write_bytes(content)
    with pytest.raises(StorageError, match=rf"^{path}: the study's database cannot be used: .*malformed"):
        store_of(open_database(f"sqlite:///{path}"))
    assert path.read_bytes() == bytes(content)


def test_a_locked_database_is_an_error_after_the_timeout(
    path: Path, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.study.database.database.LOCK_TIMEOUT_S", 0.1)
    store = store_of(database)
    other = sqlite3.connect(path)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(StorageError, match=r"the study's database cannot be used: .*database is locked"):
        store.set_attribute("a", 1)
    assert store.attribute("a") is None
    other.close()
    store.set_attribute("a", 2)
    assert store.attribute("a") == 2
