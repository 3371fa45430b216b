"""A study in PostgreSQL, on a real server."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from tune_jobs.database import Database
from tune_jobs.errors import AlreadyRunningError, StorageError
from tune_jobs.study_store import StudyStore, open_database

HOLD = """
import sys
from tune_jobs.study_store import open_database
database = open_database(sys.stdin.readline().strip())
database.hold("e/s")
print("held", flush=True)
input()
"""
OURS = "FROM pg_stat_activity WHERE application_name LIKE 'selfcon %'"


@pytest.fixture
def url(postgresql_server: Any) -> str:
    return str(postgresql_server.new_database())


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
    postgresql_server: Any, opened: Callable[[], Database]
) -> None:
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    postgresql_server.execute(f"SELECT pg_terminate_backend(pid) {OURS}")
    other = opened()
    other.hold("e/s")  # the server has freed the lock: another one may have the study now
    uses: list[Callable[[], object]] = [lambda: store.set_attribute("a", 1), store.check]
    for use in 2 * uses:
        with pytest.raises(StorageError, match=r"cannot be used: .*(terminating|lock was lost)"):
            use()
    assert store_of(other).attribute("a") is None


def test_a_server_that_stopped_is_a_storage_error_until_it_is_back(
    postgresql_server: Any, opened: Callable[[], Database]
) -> None:
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    store.set_attribute("a", 1)
    postgresql_server.stop()
    with pytest.raises(StorageError):
        store.check()
    with pytest.raises(
        StorageError, match=r"^postgresql://selfcon:\*\*\*@127\S+: .*cannot be used: .*refused"
    ):
        opened().hold("e/s")
    postgresql_server.start()
    with pytest.raises(StorageError):
        store.set_attribute("b", 1)
    again = opened()
    again.hold("e/s")
    assert [store_of(again).attribute(name) for name in "ab"] == [1, None]


def test_a_locked_table_is_waited_for_and_then_told(
    url: str, opened: Callable[[], Database], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tune_jobs.postgresql.LOCK_TIMEOUT_S", 1)
    database = opened()
    database.hold("e/s")
    store = store_of(database)
    with psycopg.connect(url) as other:
        other.execute("LOCK TABLE study_user_attributes")
        with pytest.raises(StorageError, match="lock timeout"):
            store.set_attribute("a", 1)
        other.rollback()
    store.set_attribute("a", 2)
    assert store.attribute("a") == 2


def test_a_wrong_password_is_one_line_without_it(url: str) -> None:
    database = open_database(url.replace("se%2Fc%40ret", "wr0ng"))
    with pytest.raises(StorageError, match="password authentication failed") as refusal:
        database.hold("e/s")
    assert "wr0ng" not in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_a_missing_driver_is_one_line_with_the_remedy(
    tmp_path: Path, run_python: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    (tmp_path / "psycopg.py").write_text("raise ImportError('no driver here')")
    code = """
from tune_jobs.errors import BadInputError
from tune_jobs.study_store import open_database
try:
    open_database("postgresql://host/db")
except BadInputError as error:
    print(error)
"""
    done = run_python(code, cwd=tmp_path)
    assert done.stdout.startswith(
        "study storage: expected the driver of PostgreSQL to be installed (pip install "
    )
    assert "'psycopg[binary]'), got: no driver here" in done.stdout
