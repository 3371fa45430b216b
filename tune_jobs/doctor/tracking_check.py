"""MLflow: whether its store answers, is of a version that we know, and takes what a search writes.

A server is asked to create an experiment without a name, which it must refuse: that shows that writing gets
through whatever stands before it, and leaves nothing. In a database a change of no row shows the same.
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

from tune_jobs.doctor.check import ANSWER_TIMEOUT_S
from tune_jobs.doctor.clocks import SECOND_S, ahead_s, clock_notes
from tune_jobs.doctor.finding import Finding, fault, first_line, note, ok
from tune_jobs.doctor.folders import existing
from tune_jobs.errors import TrackingError
from tune_jobs.terminal.quiet import CLIENT_SETTINGS
from tune_jobs.tracking.server import check_store, shown_uri, tracking_errors, within

WHAT = "MLflow"
DATABASE_SERVERS = ("postgresql", "mysql", "mssql")
REFUSED_WRITE = ("/api/2.0/mlflow/experiments/create", {"name": ""})
CHANGE_OF_NOTHING = "UPDATE experiments SET name = name WHERE 1 = 0"
DEFAULT_EXPERIMENT = "Default"  # in every store of MLflow's


def look(uri: str, experiment: str | None, from_variable: str) -> Iterator[Finding]:
    """Yield a line for the store at a URI and one for where its files go; raises what `check_store` raises.

    Without a space no experiment is known. `from_variable` is said behind the URI where a variable holds it.
    """
    os.environ.update({name: os.environ.get(name, value) for name, value in CLIENT_SETTINGS.items()})
    import mlflow  # noqa: F401 - what it lacks is told also where nothing is asked yet

    where, experiment = shown_uri(uri) + from_variable, experiment or DEFAULT_EXPERIMENT
    if uri.startswith(DATABASE_SERVERS):
        yield within(ANSWER_TIMEOUT_S, lambda: _database(uri, where, experiment), what=where)
        return
    try:
        check_store(uri, experiment=experiment, timeout_s=ANSWER_TIMEOUT_S)
        if uri.startswith("http"):
            yield from _server(uri, where, experiment)
            return
    except TrackingError as error:
        raise TrackingError(plain_refusal(where, str(error))) from error
    yield _file(Path(urlsplit(uri).path.removeprefix("/")), where)
    yield _artifacts_folder(Path.cwd() / "mlruns")


def plain_refusal(where: str, message: str) -> str:
    """Return why no request reaches a server, out of all that the libraries between say about it."""
    cause = re.search(r"Caused by \w+\(([\"'])(?:HTTPS?Connection\w*\(.*?\): )?(.*)\1\)\)", message)
    return f"{where}: {cause[2]}" if cause else message


def _server(uri: str, where: str, experiment: str) -> Iterator[Finding]:
    before_s = time.time()
    response = _request(uri, "/version", "GET")
    after_s = time.time()
    yield version_finding(where, server=response.text.strip(), client=_client_version())
    yield write_finding(where, *_answered(_request(uri, REFUSED_WRITE[0], "POST", json=REFUSED_WRITE[1])))
    if "Date" in response.headers:
        theirs_s = parsedate_to_datetime(response.headers["Date"]).timestamp()
        ahead = ahead_s(before_s=before_s, theirs_s=theirs_s, after_s=after_s, resolution_s=SECOND_S)
        yield from clock_notes("MLflow's server", ahead)
    yield _artifacts(uri, experiment)


def version_finding(where: str, *, server: str, client: str) -> Finding:
    """Return how the versions of MLflow's server and of its client go together."""
    words = f"{where}, version {server}"
    if _release(server) == _release(client):
        return ok(WHAT, words)
    remedy = (
        f"nothing while it works; else the same on both sides: pip install mlflow=={client} for the server"
    )
    return note(WHAT, f"{words}, the client here is {client}", remedy)


def _release(version: str) -> list[str]:
    """Its first two numbers: others mend mistakes only."""
    return version.split(".")[:2]


def write_finding(where: str, status: int, error_code: str) -> Finding:
    """Return whether writing is let through, from how an experiment without a name was refused."""
    what = f"{WHAT} writes"
    if error_code == "INVALID_PARAMETER_VALUE":
        return ok(what, "are let through (asked with one that is refused)")
    found = f"{where} answers a write with {status} {error_code}".rstrip()
    return fault(what, found, "give this user the right to write, or let POST through what stands before it")


def _answered(response: Any) -> tuple[int, str]:
    try:
        answer = response.json()
    except ValueError:
        answer = {}
    return response.status_code, str(answer.get("error_code", "")) if isinstance(answer, dict) else ""


def _artifacts(uri: str, experiment: str) -> Finding:
    """Where the files of runs go: known of the experiment, else of the one that every server has."""
    what = "MLflow files"
    found = [_location(uri, name) for name in (experiment, DEFAULT_EXPERIMENT)]
    location = next(filter(None, found), None)
    if location is None:
        return note(what, "their place is known with the first experiment only", "nothing")
    scheme = urlsplit(location).scheme
    if scheme in ("", "file"):
        return folder_finding(what, Path(urlsplit(location).path))
    try:
        _list(location, uri)
    except Exception as error:  # the library of any store may speak here, or be missing
        remedy = "install what that store needs, or let the server pass files on (--artifacts-destination)"
        return fault(what, f"{shown_uri(location)} cannot be listed: {first_line(error)}", remedy)
    return ok(what, f"{shown_uri(location)} can be listed")


def folder_finding(what: str, folder: Path) -> Finding:
    """Return whether files can go where a server says: into a folder that this machine has too."""
    if folder.is_dir() and os.access(folder, os.W_OK):
        return ok(what, f"{folder}, a folder that this machine can write")
    found = f"{folder}: the server names a folder of its own machine, which this one cannot write"
    return fault(what, found, "start the server with --artifacts-destination, for new experiments")


def _location(uri: str, experiment: str) -> str | None:
    path, parameters = "/api/2.0/mlflow/experiments/get-by-name", {"experiment_name": experiment}
    answer = _request(uri, path, "GET", params=parameters).json()
    location = answer.get("experiment", {}).get("artifact_location")
    return None if location is None else str(location)


def _list(location: str, uri: str) -> None:
    from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

    os.environ["MLFLOW_HTTP_REQUEST_TIMEOUT"] = str(int(ANSWER_TIMEOUT_S))
    get_artifact_repository(location, tracking_uri=uri).list_artifacts()


def _request(uri: str, path: str, method: str, **more: Any) -> Any:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    settings = {"max_retries": 0, "raise_on_status": False, "timeout": ANSWER_TIMEOUT_S / 2}
    with tracking_errors(uri):
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        return http_request(credentials, path, method, **settings, **more)  # type: ignore[no-untyped-call]


def _client_version() -> str:
    import mlflow

    return str(mlflow.__version__)


def _file(path: Path, where: str) -> Finding:
    """A SQLite file that is there takes a write of nothing; one that is not is made by the first search."""
    if not path.is_file():
        return ok(WHAT, f"{where}, made by the first search")
    with closing(sqlite3.connect(path, timeout=ANSWER_TIMEOUT_S)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
        except sqlite3.Error as error:
            raise TrackingError(f"{where} cannot be written: {error}") from error
    return ok(WHAT, f"{where}, can be written")


def _artifacts_folder(folder: Path) -> Finding:
    place = existing(folder)
    if place.is_dir() and os.access(place, os.W_OK):
        return ok("MLflow files", f"{folder}")
    return fault("MLflow files", f"{place} cannot be written", "start the search from another folder")


def _database(uri: str, where: str, experiment: str) -> Finding:
    """A server's database. MLflow makes its tables in an empty one, and asking it would do so now."""
    import sqlalchemy

    with tracking_errors(uri):
        engine = sqlalchemy.create_engine(uri)
        try:
            if not sqlalchemy.inspect(engine).has_table("experiments"):
                return ok(WHAT, f"{where}, an empty database: its tables are made by the first search")
            with engine.connect() as connection:
                connection.execute(sqlalchemy.text(CHANGE_OF_NOTHING))
                connection.rollback()
        finally:
            engine.dispose()
    check_store(uri, experiment=experiment, timeout_s=ANSWER_TIMEOUT_S)
    return ok(WHAT, f"{where}, can be written")
