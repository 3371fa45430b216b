import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tune_jobs.doctor import tracking_check
from tune_jobs.doctor.finding import Finding, Level
from tune_jobs.doctor.tracking_check import (
    check,
    connection_error,
    folder_finding,
    version_finding,
    write_finding,
)
from tune_jobs.errors import BadInputError, TrackingError


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tracking_check, "CLIENT_SETTINGS", {})  # it would change this process
    return tmp_path


def found(uri: str) -> dict[str, Finding]:
    return {finding.subject: finding for finding in check(uri, None, "")}


@contextmanager
def outdated_server(artifact_location: str) -> Iterator[str]:
    """A server of an older version whose clock is an hour behind and which rejects writes."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            text = f'{{"experiment": {{"artifact_location": "{artifact_location}"}}}}'
            self._answer(200, "2.1.0" if self.path == "/version" else text)

        def do_POST(self) -> None:
            self._answer(403, "no")

        def _answer(self, status: int, text: str) -> None:
            self.send_response(status)
            self.end_headers()
            self.wfile.write(text.encode())

        def date_time_string(self, timestamp: float | None = None) -> str:
            return formatdate(time.time() - 3600, usegmt=True)

        def log_message(self, *_: object) -> None:
            """Log nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def test_a_real_server_is_ok_and_left_unchanged(mlflow_server: str) -> None:
    from mlflow import MlflowClient

    before = len(MlflowClient(tracking_uri=mlflow_server).search_experiments())
    findings = found(mlflow_server)
    assert list(findings) == ["MLflow", "MLflow writes", "MLflow files"]
    assert {finding.level for finding in findings.values()} == {Level.OK}
    assert len(MlflowClient(tracking_uri=mlflow_server).search_experiments()) == before


def test_an_old_read_only_server_with_a_wrong_clock_has_findings(tmp_path: Path) -> None:
    with outdated_server(str(tmp_path / "nowhere")) as uri:
        findings = found(uri)
    levels = {subject: finding.level for subject, finding in findings.items()}
    assert levels == {
        "MLflow": Level.NOTE, "MLflow writes": Level.FAULT, "clock": Level.NOTE, "MLflow files": Level.FAULT
    }  # fmt: skip
    assert "version 2.1.0, the client is " in findings["MLflow"].message
    assert findings["MLflow writes"].message == f"{uri} answered a write with 403"
    assert findings["clock"].message.startswith("the clock of the MLflow server is 3,")


def test_an_unreachable_or_silent_server_is_a_short_error(
    free_port: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    uri = f"http://127.0.0.1:{free_port()}"
    with pytest.raises(TrackingError, match=rf"^{uri}: .*refused$"):
        found(uri)
    monkeypatch.setattr(tracking_check, "SERVER_TIMEOUT_S", 1.0)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        uri = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(TrackingError, match=rf"^{uri}: Read timed out"):
            found(uri)


def test_a_short_error_is_unchanged() -> None:
    assert (
        connection_error("http://x", "MLflow at http://x answered 503") == "MLflow at http://x answered 503"
    )


def test_a_file_that_does_not_exist_is_ok_and_is_not_created(here: Path) -> None:
    findings = found(f"sqlite:///{here}/mlflow.db")
    assert findings["MLflow"].message.endswith("/mlflow.db, will be created by the first search")
    assert findings["MLflow files"].message == str(here / "mlruns")
    assert list(here.iterdir()) == []


def test_a_locked_file_is_an_error(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(sqlite3.connect(here / "mlflow.db", isolation_level=None)) as other:
        other.execute("create table something (number integer)")
        before = (here / "mlflow.db").read_bytes()
        assert found(f"sqlite:///{here}/mlflow.db")["MLflow"].message.endswith(", can be written")
        assert (here / "mlflow.db").read_bytes() == before
        other.execute("begin immediate")
        monkeypatch.setattr(tracking_check, "SERVER_TIMEOUT_S", 0.2)
        with pytest.raises(TrackingError, match=r"cannot be written: database is locked$"):
            found(f"sqlite:///{here}/mlflow.db")


def test_an_empty_database_of_a_server_remains_empty(postgresql_server: Any) -> None:
    url = postgresql_server.new_database()
    finding = found(url)["MLflow"]
    assert finding.level == Level.OK
    assert "an empty database" in finding.message
    assert postgresql_server.password not in finding.message
    assert tables(url) == []


def tables(url: str) -> list[str]:
    import sqlalchemy

    engine = sqlalchemy.create_engine(url.replace("postgresql://", "postgresql+psycopg://"))
    try:
        return sqlalchemy.inspect(engine).get_table_names()
    finally:
        engine.dispose()


@pytest.mark.parametrize("uri", ["file:///tmp/mlruns", "ftp://host/x"])
def test_an_unsupported_store_is_an_error(uri: str) -> None:
    with pytest.raises(BadInputError, match=r"^tracking URI: expected http"):
        found(uri)


@pytest.mark.parametrize(
    ("server", "level"),
    [("3.17.2", Level.OK), ("3.17.9", Level.OK), ("3.16.0", Level.NOTE), ("4.17.2", Level.NOTE)],
)
def test_different_versions_are_noted(server: str, level: Level) -> None:
    assert version_finding("http://x", server=server, client="3.17.2").level == level


@pytest.mark.parametrize(
    ("status", "code", "level"),
    [
        (400, "INVALID_PARAMETER_VALUE", Level.OK),
        (403, "PERMISSION_DENIED", Level.FAULT),
        (405, "", Level.FAULT),
        (200, "", Level.FAULT),
    ],
)
def test_a_write_must_reach_the_server(status: int, code: str, level: Level) -> None:
    assert write_finding("http://x", status, code).level == level


def test_the_artifact_folder_of_a_server_must_be_writable_here(tmp_path: Path) -> None:
    assert folder_finding("files", tmp_path).level == Level.OK
    assert folder_finding("files", tmp_path / "x").level == Level.FAULT
