"""MLflow: whether its store answers, its version, and whether it can be written.

The write test requests an experiment without a name. The server must reject it, which shows that writes pass
all proxies; nothing is created. For a database the write test is an update of zero rows.
"""

import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tune_jobs.doctor.check import SERVER_TIMEOUT_S
from tune_jobs.doctor.clocks import HTTP_DATE_RESOLUTION_S, clock_notes, clock_offset_s
from tune_jobs.doctor.finding import Finding, fault, first_line, note, ok
from tune_jobs.doctor.folders import nearest_existing
from tune_jobs.errors import TrackingError
from tune_jobs.terminal.quiet import CLIENT_SETTINGS
from tune_jobs.tracking.server import check_store, shown_uri, tracking_errors, within

SUBJECT = "MLflow"
DATABASE_SERVERS = ("postgresql", "mysql", "mssql")
INVALID_WRITE = ("/api/2.0/mlflow/experiments/create", {"name": ""})
EMPTY_UPDATE = "UPDATE experiments SET name = name WHERE 1 = 0"
DEFAULT_EXPERIMENT = "Default"  # exists in every MLflow store


def check(uri: str, experiment: str | None, from_variable: str) -> Iterator[Finding]:
    """Yield the findings on the store at a URI and on its artifact store; raises the errors of `check_store`.

    Without a space there is no experiment to check. `from_variable` is appended to the URI if it comes from
    an environment variable.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in CLIENT_SETTINGS.items()})
    import mlflow  # noqa: F401 - an import error is a finding even if there is no server

    where, experiment = shown_uri(uri) + from_variable, experiment or DEFAULT_EXPERIMENT
    if uri.startswith(DATABASE_SERVERS):
        yield within(SERVER_TIMEOUT_S, lambda: _database(uri, where, experiment), what=where)
        return
    try:
        check_store(uri, experiment=experiment, timeout_s=SERVER_TIMEOUT_S)
        if uri.startswith("http"):
            yield from _server(uri, where, experiment)
            return
    except TrackingError as error:
        raise TrackingError(connection_error(where, str(error))) from error
    yield _file(Path(urlsplit(uri).path.removeprefix("/")), where)
    yield _artifacts_folder(Path.cwd() / "mlruns")


def connection_error(where: str, message: str) -> str:
    """Return the reason why a server cannot be reached, extracted from the message of the HTTP libraries."""
    cause = re.search(r"Caused by \w+\(([\"'])(?:HTTPS?Connection\w*\(.*?\): )?(.*)\1\)\)", message)
    return f"{where}: {cause[2]}" if cause else message


def _server(uri: str, where: str, experiment: str) -> Iterator[Finding]:
    before_s = time.time()
    response = _request(uri, "/version", "GET")
    after_s = time.time()
    yield version_finding(where, server=response.text.strip(), client=_client_version())
    yield write_finding(
        where, *_status_and_code(_request(uri, INVALID_WRITE[0], "POST", json=INVALID_WRITE[1]))
    )
    if "Date" in response.headers:
        remote_s = parsedate_to_datetime(response.headers["Date"]).timestamp()
        offset_s = clock_offset_s(
            before_s=before_s, remote_s=remote_s, after_s=after_s, resolution_s=HTTP_DATE_RESOLUTION_S
        )
        yield from clock_notes("the MLflow server", offset_s)
    yield _artifacts(uri, experiment)


def version_finding(where: str, *, server: str, client: str) -> Finding:
    """Return the finding on the versions of the MLflow server and client."""
    words = f"{where}, version {server}"
    if _release(server) == _release(client):
        return ok(SUBJECT, words)
    remedy = f"no action if it works; otherwise install it on the server: pip install mlflow=={client}"
    return note(SUBJECT, f"{words}, the client is {client}", remedy)


def _release(version: str) -> list[str]:
    """Major and minor version."""
    return version.split(".")[:2]


def write_finding(where: str, status: int, error_code: str) -> Finding:
    """Return the finding on writes, from the response to the invalid write."""
    subject = f"{SUBJECT} writes"
    if error_code == "INVALID_PARAMETER_VALUE":
        return ok(subject, "reach the server (tested with an invalid request)")
    message = f"{where} answered a write with {status} {error_code}".rstrip()
    return fault(subject, message, "grant this user write access, or allow POST in the proxy of the server")


def _status_and_code(response: Any) -> tuple[int, str]:
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    return response.status_code, str(answer.get("error_code", "")) if isinstance(answer, dict) else ""


def _artifacts(uri: str, experiment: str) -> Finding:
    """Artifact location of the experiment, else of the default experiment."""
    subject = "MLflow files"
    locations = [_location(uri, name) for name in (experiment, DEFAULT_EXPERIMENT)]
    location = next(filter(None, locations), None)
    if location is None:
        return note(subject, "location unknown until the first experiment exists", "no action")
    scheme = urlsplit(location).scheme
    if scheme in ("", "file"):
        return folder_finding(subject, Path(urlsplit(location).path))
    try:
        _list(location, uri)
    except Exception as error:  # any storage library may raise here, or be missing
        remedy = (
            "install the client of that storage, or let the server proxy artifacts (--artifacts-destination)"
        )
        return fault(subject, f"{shown_uri(location)} cannot be listed: {first_line(error)}", remedy)
    return ok(subject, f"{shown_uri(location)} can be listed")


def folder_finding(subject: str, folder: Path) -> Finding:
    """Return the finding on an artifact location that is a folder."""
    if folder.is_dir() and os.access(folder, os.W_OK):
        return ok(subject, f"{folder}, a writable folder")
    message = f"{folder}: a folder of the server, not writable from this machine"
    return fault(
        subject, message, "start the server with --artifacts-destination, which applies to new experiments"
    )


def _location(uri: str, experiment: str) -> str | None:
    path, parameters = "/api/2.0/mlflow/experiments/get-by-name", {"experiment_name": experiment}
    answer = _request(uri, path, "GET", params=parameters).json()
    location = answer.get("experiment", {}).get("artifact_location")
    return None if location is None else str(location)


def _list(location: str, uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(int(SERVER_TIMEOUT_S))
    get_artifact_repository(location, tracking_uri=uri).list_artifacts()


def _request(uri: str, path: str, method: str, **more: Any) -> Any:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    settings = {"max_retries": 0, "raise_on_status": False, "timeout": SERVER_TIMEOUT_S / 2}
    with tracking_errors(uri):
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        return http_request(credentials, path, method, **settings, **more)  # type: ignore[no-untyped-call]


def _client_version() -> str:
    import mlflow

    return str(mlflow.__version__)


def _file(path: Path, where: str) -> Finding:
    """Finding on a SQLite file: a write test if it exists; otherwise the first search creates it."""
    if not path.is_file():
        return ok(SUBJECT, f"{where}, will be created by the first search")
    with closing(sqlite3.connect(path, timeout=SERVER_TIMEOUT_S)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
        except sqlite3.Error as error:
            raise TrackingError(f"{where} cannot be written: {error}") from error
    return ok(SUBJECT, f"{where}, can be written")


def _artifacts_folder(folder: Path) -> Finding:
    place = nearest_existing(folder)
    if place.is_dir() and os.access(place, os.W_OK):
        return ok("MLflow files", f"{folder}")
    return fault("MLflow files", f"{place} cannot be written", "start the search from another folder")


def _database(uri: str, where: str, experiment: str) -> Finding:
    """Finding on a database server, without MLflow, which would create its tables."""
    import sqlalchemy

    with tracking_errors(uri):
        engine = sqlalchemy.create_engine(uri)
        try:
            if not sqlalchemy.inspect(engine).has_table("experiments"):
                return ok(SUBJECT, f"{where}, an empty database; the first search creates its tables")
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(EMPTY_UPDATE))
                connection.rollback()
        finally:
            engine.dispose()
    check_store(uri, experiment=experiment, timeout_s=SERVER_TIMEOUT_S)
    return ok(SUBJECT, f"{where}, can be written")
