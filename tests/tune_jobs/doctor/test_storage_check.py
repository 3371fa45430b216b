import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pyarrow.fs
import pytest

from tests.tune_jobs.study.database.mariadb_server import MariaDBServer
from tune_jobs.doctor.finding import Level
from tune_jobs.doctor.storage_check import checkpoints, server_finding, study
from tune_jobs.errors import StorageError
from tune_jobs.study.store import open_database

TRACKING_URI = "sqlite:////other/mlflow.db"


@pytest.fixture(scope="module")
def mariadb(require_program: Callable[[str], str], free_port: Callable[[], int]) -> Iterator[Any]:
    programs = require_program("mariadb-install-db"), require_program("mariadbd")
    with tempfile.TemporaryDirectory(
        prefix="mariadb-"
    ) as folder:  # pytest's folders are readable only by this user
        server = MariaDBServer(*programs, Path(folder), free_port())
        yield server
        server.stop()


@pytest.fixture(params=["postgresql_server", "mariadb"])
def server(request: pytest.FixtureRequest) -> Any:
    return request.getfixturevalue(request.param)


def create_tables(url: str) -> None:
    database = open_database(url)
    database.storage()
    database.close()


def test_a_server_is_ok_and_left_unchanged(server: Any) -> None:
    url = server.new_database()
    (finding,) = study(url, " (A_VARIABLE)", TRACKING_URI)
    assert finding.level == Level.OK, finding
    assert finding.message.endswith(", can be written and locked")
    assert "(A_VARIABLE)" in finding.message
    assert "se/c@ret" not in finding.message
    database = url.rpartition("/")[2]
    condition = f"table_schema IN ('public', '{database}') AND table_catalog IN ('{database}', 'def')"
    names = f"SELECT table_name FROM information_schema.tables WHERE {condition}"
    assert [row for row in server.execute(names) if "selfcon" in row[0]] == []


def test_an_existing_study_is_ok_and_one_of_another_optuna_is_an_error(postgresql_server: Any) -> None:
    url = postgresql_server.new_database()
    create_tables(url)
    (finding,) = study(url, "", TRACKING_URI)
    assert finding.level == Level.OK
    import psycopg

    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE alembic_version SET version_num = 'v9'")
    with pytest.raises(StorageError, match="no longer compatible"):
        list(study(url, "", TRACKING_URI))


def test_a_user_without_write_access_is_a_fault(postgresql_server: Any) -> None:
    url = postgresql_server.new_database()
    name = url.rpartition("/")[2]
    postgresql_server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    (finding,) = study(url, "", TRACKING_URI)
    assert finding.level == Level.FAULT
    assert "this user cannot write" in finding.message


def test_an_unreachable_server_is_an_error_without_the_password(free_port: Callable[[], int]) -> None:
    with pytest.raises(StorageError, match="refused") as raised:
        list(study(f"postgresql://me:secret@127.0.0.1:{free_port()}/x", "", TRACKING_URI))
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("product", "version", "locks", "is_writable", "level"),
    [
        ("PostgreSQL", "15.18", True, True, Level.OK),
        ("PostgreSQL", "14.2", True, True, Level.NOTE),
        ("MariaDB", "10.6.1", True, True, Level.NOTE),
        ("MySQL", "8.0.36", True, True, Level.OK),
        ("MySQL", "8.0.36", False, True, Level.FAULT),
        ("PostgreSQL", "17.0", True, False, Level.FAULT),
    ],
)
def test_the_finding_on_a_server_depends_on_version_locks_and_write_access(
    product: str, version: str, locks: bool, is_writable: bool, level: Level
) -> None:
    assert server_finding("x", product, version, locks=locks, is_writable=is_writable).level == level


def test_a_file_is_ok_before_and_after_its_creation_and_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "a/study.db"
    (finding,) = study(f"sqlite:///{file}", "", TRACKING_URI)
    assert finding.message == f"{file}, will be created by the first search"
    assert list(tmp_path.iterdir()) == []
    file.parent.mkdir()
    create_tables(f"sqlite:///{file}")
    before = file.read_bytes()
    (finding,) = study(f"sqlite:///{file}", "", TRACKING_URI)
    assert finding.message == f"{file}, can be written"
    assert file.read_bytes() == before
    assert [path.name for path in file.parent.iterdir()] == ["study.db"]


def test_a_file_that_is_not_a_study_or_of_another_optuna_is_an_error(tmp_path: Path) -> None:
    file = tmp_path / "study.db"
    file.write_text("text " * 1000)
    with pytest.raises(StorageError, match="file is not a database"):
        list(study(f"sqlite:///{file}", "", TRACKING_URI))
    file.unlink()
    create_tables(f"sqlite:///{file}")
    with closing(sqlite3.connect(file)) as database:
        database.execute("update alembic_version set version_num = 'v9'")
        database.commit()
    with pytest.raises(StorageError, match="no longer compatible"):
        list(study(f"sqlite:///{file}", "", TRACKING_URI))


def test_mlflow_and_the_study_in_one_database_are_a_fault(tmp_path: Path) -> None:
    (finding,) = study(f"sqlite:///{tmp_path}/a.db", "", f"sqlite:///{tmp_path}/a.db")
    assert finding.level == Level.FAULT


def test_the_probe_of_a_folder_is_removed(tmp_path: Path) -> None:
    (finding,) = checkpoints(str(tmp_path / "a/b"), "")
    assert finding.message == f"{tmp_path}/a/b: a test file was written, read and removed"
    assert list(tmp_path.iterdir()) == []


def test_the_probe_of_a_bucket_is_removed_and_a_missing_bucket_is_an_error(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    query = f"endpoint_override={s3_endpoint}&scheme=http"
    (finding,) = checkpoints(f"s3://bucket/doctor-test?{query}", "")
    assert finding.level == Level.OK
    files = pyarrow.fs.S3FileSystem(endpoint_override=s3_endpoint, scheme="http")
    assert files.get_file_info(pyarrow.fs.FileSelector("bucket/doctor-test", allow_not_found=True)) == []
    with pytest.raises(StorageError, match="NO_SUCH_BUCKET"):
        list(checkpoints(f"s3://no-such-bucket/x?{query}", ""))


def test_a_folder_that_cannot_be_created_is_an_error_with_the_cause(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="Not a directory"):
        list(checkpoints(str(tmp_path / "file/a/b"), ""))
