"""A study in PostgreSQL and in MariaDB, on real servers: the same holds for both."""

import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import psycopg
import pymysql
import pytest
import sqlalchemy

from tests.tune_jobs.study.database.mariadb_server import MariaDBServer
from tune_jobs.errors import AlreadyRunningError, BadInputError, StorageError
from tune_jobs.study.database.database import Database
from tune_jobs.study.store import StudyStore, open_database

HOLD = """
import sys
from tune_jobs.study.store import open_database
database = open_database(sys.stdin.readline().strip())
database.hold("e/s")
print("held", flush=True)
input()
"""


@pytest.fixture(scope="module")
def running_mariadb(require_program: Callable[[str], str], free_port: Callable[[], int]) -> Iterator[Any]:
    programs = require_program("mariadb-install-db"), require_program("mariadbd")
    with tempfile.TemporaryDirectory(prefix="mariadb-") as folder:  # pytest's own are for this user only
        server = MariaDBServer(*programs, Path(folder), free_port())
        yield server
        server.stop()


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each server, running again where a test has stopped it."""
    if request.param == "postgresql":
        return request.getfixturevalue("postgresql_server")
    found = request.getfixturevalue("running_mariadb")
    found.start()
    return found


@pytest.fixture
def url(server: Any) -> str:
    return str(server.new_database())


@pytest.fixture
def opened(url: str) -> Iterator[Callable[[], Database]]:
    """Return a function that opens the database as another launcher would; all are closed at the end."""
    found = []

    def make() -> Database:
        found.append(open_database(url))
        return found[-1]

    yield make
    for database in found:
        database.close()


@contextmanager
def locked_table(url: str, table: str) -> Iterator[None]:
    """Another session has the whole table for itself."""
    if url.startswith("postgresql"):
        with psycopg.connect(url) as other:
            other.execute(f"LOCK TABLE {table}")
            yield
            other.rollback()
        return
    parts = sqlalchemy.make_url(url)
    with pymysql.connect(
        host=parts.host, port=parts.port or 0, user=parts.username, password=parts.password or "",
        database=parts.database,
    ) as session, session.cursor() as cursor:  # fmt: skip
        cursor.execute(f"LOCK TABLES {table} WRITE")
        yield


def store_of(database: Database) -> StudyStore:
    return StudyStore(database, name="e/s", directions=["maximize"])


def test_a_second_launcher_is_refused_by_name_and_let_in_after_a_kill(
    url: str, opened: Callable[[], Database]
) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        holder.stdin.write(f"{url}\n")
        holder.stdin.flush()
        assert holder.stdout.readline() == "held\n"
        holder.send_signal(signal.SIGSTOP)  # a paused one holds it too
        expected = f"process {holder.pid} on {os.uname().nodename}, started {time.strftime('%Y-%m-%d')} "
        with pytest.raises(AlreadyRunningError, match=expected) as refusal:
            opened().hold("e/s")
        assert "secret" not in str(refusal.value)
        assert "se/c@ret" not in str(refusal.value)
        opened().hold("e/another")  # another search may share the database
        holder.kill()
    deadline = time.monotonic() + 10
    while True:  # the server sees the end of the connection a moment later
        try:
            return opened().hold("e/s")
        except AlreadyRunningError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_what_is_written_through_the_lock_is_there_for_the_next_launcher(
    opened: Callable[[], Database],
) -> None:
    first = opened()
    first.hold("e/s")
    store_of(first).set_attribute("a", 1)
    store_of(opened()).check()  # a report reads beside the launcher
    first.close()
    second = opened()
    second.hold("e/s")
    assert store_of(second).attribute("a") == 1


def test_a_launcher_that_lost_its_connection_writes_nothing_any_more(
    server: Any, opened: Callable[[], Database]
) -> None:
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    server.end_sessions()
    other = opened()
    other.hold("e/s")  # the server has freed the lock: another one may have the study now
    uses: list[Callable[[], object]] = [lambda: store.set_attribute("a", 1), store.check]
    for use in 2 * uses:
        with pytest.raises(StorageError, match=r"cannot be used: .*(terminating|lock was lost)"):
            use()
    assert store_of(other).attribute("a") is None


def test_a_server_that_stopped_is_a_storage_error_until_it_is_back(
    server: Any, opened: Callable[[], Database]
) -> None:
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    store.set_attribute("a", 1)
    server.stop()
    with pytest.raises(StorageError):
        store.check()
    with pytest.raises(StorageError, match=r"^\w+://selfcon:\*\*\*@127\S+: .*cannot be used: .*refused"):
        opened().hold("e/s")
    server.start()
    with pytest.raises(StorageError):
        store.set_attribute("b", 1)
    again = opened()
    again.hold("e/s")
    assert [store_of(again).attribute(name) for name in "ab"] == [1, None]


def test_a_locked_table_is_waited_for_and_then_told(
    url: str, opened: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in ("postgresql", "mysql"):
        monkeypatch.setattr(f"tune_jobs.study.database.{module}.LOCK_TIMEOUT_S", 1)
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    expected = pytest.raises(StorageError, match=r"lock timeout|Lock wait timeout")
    with locked_table(url, "study_user_attributes"), expected:
        store.set_attribute("a", 1)
    store.set_attribute("a", 2)
    assert store.attribute("a") == 2


def test_a_wrong_password_is_one_line_without_it(url: str) -> None:
    database = open_database(url.replace("se%2Fc%40ret", "wr0ng"))
    with pytest.raises(StorageError, match=r"password authentication failed|Access denied") as refusal:
        database.hold("e/s")
    assert "wr0ng" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_port_is_a_number(scheme: str) -> None:
    with pytest.raises(BadInputError, match=rf"a database's URL, got {scheme}://user:\*\*\*@host:x/db$"):
        open_database(f"{scheme}://user:secret@host:x/db")


def test_a_url_of_mysql_names_a_database() -> None:
    with pytest.raises(BadInputError, match=r"a URL that names a database, got mysql://user:\*\*\*@host$"):
        open_database("mysql://user:secret@host")


def test_capitals_make_no_other_study_where_the_server_sees_none(running_mariadb: Any) -> None:
    running_mariadb.start()
    url = running_mariadb.new_database()
    first, second = open_database(url), open_database(url)
    first.hold("e/s")
    with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} on "):
        second.hold("E/S")
    first.close()


def test_a_urls_own_first_command_does_not_replace_ours(running_mariadb: Any) -> None:
    running_mariadb.start()
    database = open_database(f"{running_mariadb.new_database()}?init_command=SET+@a=1")
    with database.storage().engine.connect() as connection:
        (found,) = connection.execute(sqlalchemy.text("SELECT @@innodb_lock_wait_timeout")).fetchall()
    assert found == (30,)
    database.close()


def test_a_lenient_server_refuses_what_it_would_cut(running_mariadb: Any) -> None:
    running_mariadb.start()
    running_mariadb.execute("SET GLOBAL sql_mode = ''")
    database = open_database(running_mariadb.new_database())
    database.hold("e/s")
    store = store_of(database)
    with pytest.raises(StorageError, match="too long"):
        store.set_attribute("a", "x" * 70_000)
    store.set_attribute("a", "x" * 60_000)
    database.close()


def test_numbers_come_back_bit_for_bit(opened: Callable[[], Database]) -> None:
    numbers = [0.1 + 0.2, 1 / 3, 5e-324, 1.7976931348623157e308, -math.pi * 1e-10]
    database = opened()
    database.hold("e/s")
    study = optuna.create_study(storage=database.storage(), study_name="numbers")
    for number in numbers:
        trial = study.ask()
        trial.report(number, step=0)
        trial.set_user_attr("number", number)
        study.tell(trial, number)
    again = optuna.load_study(storage=opened().storage(), study_name="numbers")
    for number, told in zip(numbers, again.trials, strict=True):
        assert (told.value, told.intermediate_values[0], told.user_attrs["number"]) == (number,) * 3


@pytest.mark.parametrize(
    ("driver", "database", "package"),
    [("psycopg", "PostgreSQL", "psycopg[binary]"), ("pymysql", "MySQL", "pymysql[rsa]")],
)
def test_a_missing_driver_is_one_line_with_the_remedy(
    tmp_path: Path, run_python: Callable[..., Any], driver: str, database: str, package: str
) -> None:
    (tmp_path / f"{driver}.py").write_text("raise ImportError('no driver here')")
    code = f"""
from tune_jobs.errors import BadInputError
from tune_jobs.study.store import open_database
try:
    open_database("{database.lower()}://host/db")
except BadInputError as error:
    print(error)
"""
    done = run_python(code, cwd=tmp_path)
    assert done.stdout == (
        f"study storage: expected the driver of {database} to be installed (pip install '{package}'), "
        "got: no driver here\n"
    )
