"""Storage of the study and of checkpoints: whether it can be used; all test data are removed."""

import re
import sqlite3
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from email.utils import parsedate_to_datetime
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit

from tune_jobs.doctor.check import SERVER_TIMEOUT_S
from tune_jobs.doctor.clocks import HTTP_DATE_RESOLUTION_S, clock_notes, clock_offset_s
from tune_jobs.doctor.finding import Finding, fault, first_line, note, ok
from tune_jobs.doctor.folders import nearest_existing, probe_locks
from tune_jobs.errors import StorageError
from tune_jobs.tracking.server import within
from tune_jobs.urls import is_same_database, masked_uri

STUDY, CHECKPOINTS = "study database", "checkpoints"
BUSY_TIMEOUT_S = 8.0
DATE_TIMEOUT_S = 3.0
# Oldest tested versions, and the corresponding version of MySQL.
OLDEST_TESTED = {"PostgreSQL": (15,), "MariaDB": (10, 11), "MySQL": (8,)}


def study(url: str, from_variable: str, tracking_uri: str) -> Iterator[Finding]:
    """Yield the finding on the database at a URL; raises `StorageError` if it cannot be used."""
    from tune_jobs.study.store import open_database

    if is_same_database(url, tracking_uri):
        message = "the study and MLflow use the same database, but their tables conflict"
        yield fault(STUDY, message, "use a separate database for each")
        return

    database = open_database(url)  # imports its driver
    where = f"{database.shown}{from_variable}"
    if url.startswith("sqlite"):
        yield study_file(Path(database.shown), where)
        return
    from tune_jobs.study.database.server import ServerDatabase

    assert isinstance(database, ServerDatabase)
    before_s = time.time()
    facts = within(SERVER_TIMEOUT_S, database.server_facts, what=where)
    after_s = time.time()
    yield server_finding(
        where, facts.product, facts.version, locks=facts.locks, is_writable=facts.is_writable
    )
    offset_s = clock_offset_s(before_s=before_s, remote_s=facts.clock_s, after_s=after_s)
    yield from clock_notes("the study's database", offset_s)


def server_finding(where: str, product: str, version: str, *, locks: bool, is_writable: bool) -> Finding:
    """Return the finding on a database server."""
    words = f"{where}, {product} {version}"
    if not is_writable:
        remedy = "grant this user the right to create tables; do not use a read-only replica"
        return fault(STUDY, f"{words}: this user cannot write", remedy)
    if not locks:
        remedy = "connect to the server directly, not through a connection pooler"
        return fault(STUDY, f"{words}: locks do not work, so two launchers could run the same search", remedy)
    numbers = tuple(map(int, re.findall(r"\d+", version)))
    if not numbers >= OLDEST_TESTED[product]:
        oldest = ".".join(map(str, OLDEST_TESTED[product]))
        return note(
            STUDY, f"{words}, older than the oldest tested version {oldest}", "upgrade it if something fails"
        )
    return ok(STUDY, f"{words}, can be written and locked")


def study_file(path: Path, where: str) -> Finding:
    """Return the finding on a SQLite file, which may not exist yet; an existing file is not changed.

    Raises `StorageError` if it cannot be used.
    """
    place = nearest_existing(path.parent)
    works = probe_locks(place)
    if works is not True:
        return fault(
            STUDY,
            f"{place}: {works}",
            "set --study-storage to a file on a local disk or to a database server",
        )
    if not path.is_file():
        return ok(STUDY, f"{where}, will be created by the first search")
    from tune_jobs.study.database.database import has_tables

    try:
        with closing(sqlite3.connect(path, timeout=BUSY_TIMEOUT_S)) as database:
            database.execute("BEGIN IMMEDIATE")
            database.rollback()
        has_tables(f"sqlite:///{path}", {})
    except (sqlite3.Error, RuntimeError) as error:
        raise StorageError(f"{where}: {first_line(error)}") from error
    return ok(STUDY, f"{where}, can be written")


def checkpoints(place: str, from_variable: str) -> Iterator[Finding]:
    """Yield the finding on a checkpoint storage, after writing, reading and removing a test file.

    Raises `StorageError`.
    """
    from tune_jobs.checkpoints.store import open_store

    where = f"{masked_uri(place)}{from_variable}"
    within(SERVER_TIMEOUT_S, lambda: open_store(place).check() or True, what=where)
    yield ok(CHECKPOINTS, f"{where}: a test file was written, read and removed")
    if place.startswith("s3://"):
        yield from _clock_of_s3(place)


def _clock_of_s3(place: str) -> Iterator[Finding]:
    """Compare clocks: S3 rejects requests with a time that is 15 minutes off."""
    query = dict(parse_qsl(urlsplit(place).query))
    endpoint = query.get("endpoint_override", "s3.amazonaws.com")
    before_s = time.time()
    date = _date_of(f"{query.get('scheme', 'https')}://{endpoint}/")
    after_s = time.time()
    if date is not None:
        remote_s = parsedate_to_datetime(date).timestamp()
        offset_s = clock_offset_s(
            before_s=before_s, remote_s=remote_s, after_s=after_s, resolution_s=HTTP_DATE_RESOLUTION_S
        )
        yield from clock_notes("the object store", offset_s)


def _date_of(url: str) -> str | None:
    """Date header of the response of a web server, with any status."""
    try:
        with urllib.request.urlopen(url, timeout=DATE_TIMEOUT_S) as response:
            return str(response.headers["Date"])
    except urllib.error.HTTPError as refusal:
        return refusal.headers["Date"]
    except (OSError, ValueError):
        return None
