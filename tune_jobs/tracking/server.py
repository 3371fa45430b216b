"""MLflow's tracking store: its URI, its errors, and a check that it can be used.

MLflow is imported inside the functions, so that a launcher can set `CLIENT_SETTINGS` before.
"""

import os
import re
import sqlite3
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import urlsplit

from tune_jobs.errors import BadInputError, TrackingError
from tune_jobs.urls import masked, masked_uri

T = TypeVar("T")

ANSWER_TIMEOUT_S = 10.0
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")


def resolve_uri(uri: str | None) -> str:
    """Return the tracking URI: `uri`, else MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder.

    The last one is MLflow's default, so `mlflow ui` in this folder shows the runs.
    """
    return uri or os.environ.get("MLFLOW_TRACKING_URI") or f"sqlite:///{Path.cwd() / 'mlflow.db'}"


def shown_uri(uri: str) -> str:
    """Return the URI for messages, without user, password and other secrets."""
    return re.sub(r"^([\w.+-]+://)[^/@]+@", r"\1***@", masked_uri(uri))


@contextmanager
def tracking_errors(uri: str) -> Iterator[None]:
    """Raise errors of MLflow as `TrackingError` with one line that names the store."""
    from mlflow.exceptions import MlflowException
    from sqlalchemy.exc import SQLAlchemyError

    try:
        yield
    except (MlflowException, SQLAlchemyError, OSError) as error:
        raise TrackingError(f"MLflow at {shown_uri(uri)}: {_first_line(error)}") from error


@contextmanager
def artifact_errors() -> Iterator[None]:
    """Raise errors of MLflow's artifact store as `TrackingError`.

    If the client accesses the artifact store directly (for example S3), they come from the library of that
    store, which may be missing.
    """
    try:
        yield
    except TrackingError:
        raise
    except Exception as error:
        line = f"{type(error).__name__}: {_first_line(error)}"
        raise TrackingError(f"MLflow's files cannot be stored or read: {line}") from error


def check_store(uri: str, *, experiment: str, timeout_s: float = ANSWER_TIMEOUT_S) -> str | None:
    """Return the id of `experiment`, None if it is new, within `timeout_s`. Writes nothing.

    Raises `BadInputError` for errors that a retry does not fix: an unknown scheme, no MLflow server at the
    address, refused credentials, a damaged or read-only database file, a deleted experiment, an old file
    store in the folder. Raises `TrackingError` if the server or the database does not answer.
    """
    scheme = urlsplit(uri).scheme.partition("+")[0]
    if scheme in ("http", "https"):
        found = _found_on_server(uri, experiment, timeout_s=timeout_s)
    elif scheme in _DATABASES:
        found = _found_in_database(uri, experiment, timeout_s=timeout_s)
    else:
        raise BadInputError(
            f"tracking URI: expected http(s)://... or a database ({', '.join(_DATABASES)}), "
            f"got {shown_uri(uri)}"
        )
    if found is not None and found.stage == "deleted":
        raise BadInputError(
            f"tracking.experiment: expected one that is not deleted, got {experiment} at {shown_uri(uri)} "
            f"(restore it in MLflow, or use another name)"
        )
    return None if found is None else found.id or None


class _Found(NamedTuple):
    """Existing or deleted experiment."""

    id: str
    stage: str


def _found_on_server(uri: str, experiment: str, *, timeout_s: float) -> _Found | None:
    from mlflow.utils.credentials import get_default_host_creds
    from mlflow.utils.rest_utils import http_request

    with tracking_errors(uri):
        # The request function of MLflow supports all its ways to authenticate.
        credentials = get_default_host_creds(uri)  # type: ignore[no-untyped-call]
        response = http_request(  # type: ignore[no-untyped-call]
            credentials,
            "/api/2.0/mlflow/experiments/get-by-name",
            "GET",
            params={"experiment_name": experiment},
            max_retries=0,
            raise_on_status=False,
            timeout=timeout_s / 2,  # once to connect, once to answer
        )
    answered = f"MLflow at {shown_uri(uri)} answered {response.status_code} {response.reason}"
    if response.status_code in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        raise BadInputError(
            f"{answered}: set MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD, or MLFLOW_TRACKING_TOKEN"
        )
    if response.status_code >= HTTPStatus.INTERNAL_SERVER_ERROR:
        raise TrackingError(answered)
    answer = _json(response)
    if "experiment" not in answer and answer.get("error_code") != "RESOURCE_DOES_NOT_EXIST":
        raise BadInputError(f"{answered}: expected the answer of an MLflow server")
    found = answer.get("experiment")
    if found is None:
        return None
    return _Found(str(found.get("experiment_id", "")), str(found.get("lifecycle_stage", "")))


def _json(response: Any) -> dict[str, Any]:
    try:
        answer = response.json()
    except ValueError:
        return {}
    return answer if isinstance(answer, dict) else {}


def _found_in_database(uri: str, experiment: str, *, timeout_s: float) -> _Found | None:
    if uri.startswith("sqlite"):
        path = Path(urlsplit(uri).path.removeprefix("/"))
        _check_writable(path)
        _refuse_old_file_store(path)
        if not _has_tables(path):
            return None  # a query through MLflow would create them, which takes 2 to 10 s
    with tracking_errors(uri):
        return within(timeout_s, lambda: _found_by_client(uri, experiment), what=shown_uri(uri))


def _found_by_client(uri: str, experiment: str) -> _Found | None:
    from mlflow import MlflowClient

    found = MlflowClient(tracking_uri=uri, registry_uri=uri).get_experiment_by_name(experiment)
    return None if found is None else _Found(str(found.experiment_id), str(found.lifecycle_stage))


def _check_writable(path: Path) -> None:
    existing = next(place for place in (path, *path.absolute().parents) if place.exists())
    if not os.access(existing, os.W_OK) or (existing.is_file() and existing != path):
        raise BadInputError(f"tracking URI: expected a file that can be written, got {path}: see {existing}")


def _has_tables(path: Path) -> bool:
    """Whether a SQLite file has the tables of MLflow. Raises `BadInputError` if it is not a database."""
    if not path.exists():
        return False
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as database:
            found = database.execute(
                "select count(*) from sqlite_master where name = 'experiments'"
            ).fetchone()
    except sqlite3.DatabaseError as error:
        raise BadInputError(f"tracking URI: expected a SQLite database, got {path}: {error}") from error
    return bool(found[0])


def _refuse_old_file_store(database: Path) -> None:
    """Raise `BadInputError` if there is an old file store: `mlflow ui` would show it instead of the
    database."""
    if database.absolute() != Path.cwd() / "mlflow.db":
        return
    found = next((Path.cwd() / "mlruns").glob("*/meta.yaml"), None)
    if found is not None:
        raise BadInputError(
            f"tracking: expected no old MLflow file store in {found.parent.parent}, got {found} "
            f"(move the folder away, or convert it with `mlflow migrate-filestore`)"
        )


def within(timeout_s: float, call: Callable[[], T], *, what: str) -> T:
    """Return `call()`, or raise `TrackingError` after `timeout_s`; the call then continues in its thread."""
    results: list[T] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            results.append(call())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="tracking-check", daemon=True)
    thread.start()
    thread.join(timeout_s)
    if errors:
        raise errors[0]
    if not results:
        raise TrackingError(f"{what} did not answer within {timeout_s:g} s")
    return results[0]


def _first_line(error: BaseException) -> str:
    """The first line of an error, without credentials."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return masked(lines[0]) if lines else type(error).__name__
