import json
import os
import socket
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from mlflow import MlflowClient

from tune_jobs.errors import BadInputError, TrackingError
from tune_jobs.tracking.server import check_store, resolve_uri, shown_uri, within

PythonRunner = Callable[..., subprocess.CompletedProcess[str]]


@contextmanager
def server_that_answers(status: int, body: str) -> Iterator[str]:
    """Start a web server that gives every request the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, *_: object) -> None:
            """Write no log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty current folder, without MLFLOW_TRACKING_URI."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    return tmp_path


def test_the_uri_comes_from_the_argument_the_environment_or_the_folder(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert resolve_uri(None) == f"sqlite:///{here}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://from-the-environment")
    assert resolve_uri(None) == "http://from-the-environment"
    assert resolve_uri("http://given") == "http://given"


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        ("postgresql://me:secret@host/db", "postgresql://***@host/db"),
        ("postgresql://host/db?user=me&password=secret", "postgresql://host/db?user=me&password=***"),
        ("https://me:se/c@ret@host", "https://***@host"),
        ("https://token@host:5000", "https://***@host:5000"),
        ("sqlite:////folder/mlflow.db", "sqlite:////folder/mlflow.db"),
    ],
)
def test_a_shown_uri_has_no_credentials(uri: str, shown: str) -> None:
    assert shown_uri(uri) == shown


def test_a_new_store_is_accepted_and_not_created(here: Path) -> None:
    check_store(resolve_uri(None), experiment="exits")
    check_store(f"sqlite:///{here}/deeper/down/mlflow.db", experiment="exits")
    assert list(here.iterdir()) == []


def test_an_existing_store_is_accepted(here: Path, mlflow_server: str) -> None:
    for uri in (f"sqlite:///{here}/mlflow.db", mlflow_server):
        made = MlflowClient(tracking_uri=uri).create_experiment("there")
        assert check_store(uri, experiment="there") == made
        assert check_store(uri, experiment="not yet") is None


def test_a_deleted_experiment_is_refused(here: Path, mlflow_server: str) -> None:
    for uri in (f"sqlite:///{here}/mlflow.db", mlflow_server):
        client = MlflowClient(tracking_uri=uri)
        client.delete_experiment(client.create_experiment("deleted"))
        with pytest.raises(
            BadInputError, match=r"tracking\.experiment: expected one that is not deleted, got del"
        ):
            check_store(uri, experiment="deleted")


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "./mlruns", "ftp://host/x", "databricks"])
def test_an_unsupported_store_is_refused(uri: str) -> None:
    with pytest.raises(
        BadInputError, match=r"^tracking URI: expected http\(s\)://\.\.\. or a database .*, got "
    ):
        check_store(uri, experiment="exits")


def test_an_address_without_a_server_is_an_immediate_error(free_port: Callable[[], int]) -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"^MLflow at http://127\.0\.0\.1:\d+: .*refused"):
        check_store(f"http://127.0.0.1:{free_port()}", experiment="exits")
    assert time.monotonic() - start < 5


def test_a_server_that_does_not_answer_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        start = time.monotonic()
        with pytest.raises(TrackingError, match=r"^MLflow at http://127\.0\.0\.1:\d+: .*timed? ?out"):
            check_store(f"http://127.0.0.1:{silent.getsockname()[1]}", experiment="exits", timeout_s=1)
        assert time.monotonic() - start < 5


@pytest.mark.parametrize(
    ("status", "body", "error", "message"),
    [
        (401, "", BadInputError, r"answered 401 Unauthorized: set MLFLOW_TRACKING_USERNAME and"),
        (403, "{}", BadInputError, r"answered 403 Forbidden: set MLFLOW_TRACKING_USERNAME and"),
        (503, "", TrackingError, r"answered 503 Service Unavailable$"),
        (200, "<html>", BadInputError, r"answered 200 OK: expected the answer of an MLflow server$"),
        (404, "[]", BadInputError, r"answered 404 Not Found: expected the answer of an MLflow server$"),
    ],
)
def test_a_server_that_refuses_or_is_not_mlflow_is_reported(
    status: int, body: str, error: type[Exception], message: str
) -> None:
    with server_that_answers(status, body) as uri, pytest.raises(error, match=f"^MLflow at {uri} {message}"):
        check_store(uri, experiment="exits")


def test_a_server_without_the_experiment_is_accepted() -> None:
    answer = json.dumps({"error_code": "RESOURCE_DOES_NOT_EXIST", "message": "none"})
    with server_that_answers(404, answer) as uri:
        check_store(uri, experiment="exits")


def test_an_old_file_store_in_the_folder_is_refused(here: Path) -> None:
    (here / "mlruns" / "0").mkdir(parents=True)
    (here / "mlruns" / "0" / "meta.yaml").touch()
    with pytest.raises(
        BadInputError, match=r"expected no old MLflow file store in .*/mlruns, got .*meta\.yaml"
    ):
        check_store(resolve_uri(None), experiment="exits")
    check_store(f"sqlite:///{here}/elsewhere/mlflow.db", experiment="exits")


def test_artifacts_of_a_database_are_not_an_old_file_store(here: Path) -> None:
    (here / "mlruns" / "1" / "0123" / "artifacts").mkdir(parents=True)
    check_store(resolve_uri(None), experiment="exits")


def test_a_file_that_is_not_a_database_is_refused(here: Path) -> None:
    (here / "mlflow.db").write_text("a text of more than sixteen letters")
    with pytest.raises(
        BadInputError,
        match=r"^tracking URI: expected a SQLite database, got .*mlflow\.db: file is not a database$",
    ):
        check_store(resolve_uri(None), experiment="exits")


def test_a_database_that_cannot_be_written_is_refused(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (here / "file").touch()
    with pytest.raises(BadInputError, match=r"^tracking URI: expected a file that can be written, got "):
        check_store(f"sqlite:///{here}/file/mlflow.db", experiment="exits")
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(BadInputError, match=r"^tracking URI: expected a file that can be written, got "):
        check_store(resolve_uri(None), experiment="exits")


def change(database: Path, *statements: str) -> None:
    with closing(sqlite3.connect(database)) as connection:
        for statement in statements:
            connection.execute(statement)
        connection.commit()


def test_a_database_of_another_program_is_not_changed(here: Path) -> None:
    change(here / "mlflow.db", "create table something_else (number integer)")
    before = (here / "mlflow.db").read_bytes()
    check_store(resolve_uri(None), experiment="exits")
    assert (here / "mlflow.db").read_bytes() == before


def test_a_store_of_another_mlflow_version_is_an_error_of_one_line(here: Path) -> None:
    MlflowClient(tracking_uri=f"sqlite:///{here}/made.db")
    (here / "made.db").rename(here / "mlflow.db")
    change(here / "mlflow.db", "update alembic_version set version_num = 'of-the-future'")
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:.*schema.*$") as raised:
        check_store(resolve_uri(None), experiment="exits")
    assert "\n" not in str(raised.value)


def test_a_slow_call_is_abandoned() -> None:
    start = time.monotonic()
    with pytest.raises(TrackingError, match=r"^the database did not answer within 0\.1 s$"):
        within(0.1, lambda: time.sleep(2), what="the database")
    assert time.monotonic() - start < 1.9
    assert within(5, lambda: "answer", what="the database") == "answer"
    with pytest.raises(ZeroDivisionError):
        within(5, lambda: 1 / 0, what="the database")


def test_importing_neither_loads_mlflow_nor_changes_the_environment(
    run_python: PythonRunner, tmp_path: Path
) -> None:
    code = """
import os, sys
before = dict(os.environ)
import tune_jobs.tracking.server, tune_jobs.tracking.tracker, tune_jobs.registry.register
assert not {"mlflow", "torch"} & set(sys.modules), "heavy"
assert dict(os.environ) == before
"""
    done = run_python(code, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
