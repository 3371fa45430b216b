"""Studies on real PostgreSQL and MariaDB servers, which must behave the same."""

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
    with tempfile.TemporaryDirectory(
        prefix="mariadb-"
    ) as folder:  # folders of pytest are private to this user
        server = MariaDBServer(*programs, Path(folder), free_port())
        yield server
        server.stop()


@pytest.fixture(params=["postgresql", "mysql"])
def server(request: pytest.FixtureRequest) -> Any:
    """Each server, restarted if a test stopped it."""
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
    """Return a function that opens the database like another launcher; all are closed at the end."""
    found = []

    def make() -> Database:
        found.append(open_database(url))
        return found[-1]

    yield make
    for database in found:
        database.close()


@contextmanager
def locked_table(url: str, table: str) -> Iterator[None]:
    """Lock a table exclusively in another session."""
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


def test_a_second_launcher_is_refused_until_the_first_is_killed(
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
        holder.send_signal(signal.SIGSTOP)  # a paused launcher keeps the lock
        expected = f"process {holder.pid} on {os.uname().nodename}, started {time.strftime('%Y-%m-%d')} "
        with pytest.raises(AlreadyRunningError, match=expected) as refusal:
            opened().hold("e/s")
        assert "secret" not in str(refusal.value)
        assert "se/c@ret" not in str(refusal.value)
        opened().hold("e/another")  # another search may share the database
        holder.kill()
    deadline = time.monotonic() + 10
    while True:  # the server detects the end of the connection with a delay
        try:
            return opened().hold("e/s")
        except AlreadyRunningError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def test_the_next_launcher_reads_the_writes_of_the_previous_one(
    opened: Callable[[], Database],
) -> None:
    first = opened()
    first.hold("e/s")
    store_of(first).set_attribute("a", 1)
    store_of(opened()).check()  # reports can be read while the launcher runs
    first.close()
    second = opened()
    second.hold("e/s")
    assert store_of(second).attribute("a") == 1


def test_a_launcher_that_lost_its_connection_cannot_write(
    server: Any, opened: Callable[[], Database]
) -> None:
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    server.end_sessions()
    other = opened()
    other.hold("e/s")  # the server released the lock, so another launcher can acquire it
    uses: list[Callable[[], object]] = [lambda: store.set_attribute("a", 1), store.check]
    for use in 2 * uses:
        with pytest.raises(StorageError, match=r"cannot be used: .*(terminating|lock was lost)"):
            use()
    assert store_of(other).attribute("a") is None


def test_a_stopped_server_is_a_storage_error_for_the_running_launcher(
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


def test_a_locked_table_is_an_error_after_the_timeout(
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


def test_the_message_about_a_wrong_password_does_not_contain_it(url: str) -> None:
    database = open_database(url.replace("se%2Fc%40ret", "wr0ng"))
    with pytest.raises(StorageError, match=r"password authentication failed|Access denied") as refusal:
        database.hold("e/s")
    assert "wr0ng" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_the_port_must_be_a_number(scheme: str) -> None:
    with pytest.raises(BadInputError, match=rf"a database's URL, got {scheme}://user:\*\*\*@host:x/db$"):
        open_database(f"{scheme}://user:secret@host:x/db")


def test_a_mysql_url_must_name_a_database() -> None:
    with pytest.raises(BadInputError, match=r"a URL that names a database, got mysql://user:\*\*\*@host$"):
        open_database("mysql://user:secret@host")


def test_the_lock_ignores_case_as_the_mysql_server_does(running_mariadb: Any) -> None:
    running_mariadb.start()
    url = running_mariadb.new_database()
    first, second = open_database(url), open_database(url)
    first.hold("e/s")
    with pytest.raises(AlreadyRunningError, match=f"process {os.getpid()} on "):
        second.hold("E/S")
    first.close()


def test_an_init_command_in_the_url_does_not_replace_the_session_settings(running_mariadb: Any) -> None:
    running_mariadb.start()
    database = open_database(f"{running_mariadb.new_database()}?init_command=SET+@a=1")
    with database.storage().engine.connect() as connection:
        (found,) = connection.execute(sqlalchemy.text("SELECT @@innodb_lock_wait_timeout")).fetchall()
    assert found == (30,)
    database.close()


def test_a_server_without_strict_mode_refuses_values_it_would_truncate(running_mariadb: Any) -> None:
    running_mariadb.start()
    running_mariadb.execute("SET GLOBAL sql_mode = ''")
    database = open_database(running_mariadb.new_database())
    database.hold("e/s")
    store = store_of(database)
    with pytest.raises(StorageError, match="too long"):
        store.set_attribute("a", "x" * 70_000)
    store.set_attribute("a", "x" * 60_000)
    database.close()


def test_numbers_are_stored_exactly(opened: Callable[[], Database]) -> None:
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
    for number, stored in zip(numbers, again.trials, strict=True):
        assert (stored.value, stored.intermediate_values[0], stored.user_attrs["number"]) == (number,) * 3


@pytest.mark.parametrize(
    ("driver", "database", "package"),
    [("psycopg", "PostgreSQL", "psycopg[binary]"), ("pymysql", "MySQL", "pymysql[rsa]")],
)
def test_the_message_about_a_missing_driver_has_the_command_that_installs_it(
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
        f"study storage: expected the {database} driver to be installed (pip install '{package}'), "
        "got: no driver here\n"
    )
