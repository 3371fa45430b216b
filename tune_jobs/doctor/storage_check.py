"""Where the study and the checkpoints lie: whether it serves, with nothing left there."""

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

from tune_jobs.doctor.check import ANSWER_TIMEOUT_S
from tune_jobs.doctor.clocks import SECOND_S, ahead_s, clock_notes
from tune_jobs.doctor.finding import Finding, fault, first_line, note, ok
from tune_jobs.doctor.folders import existing, probe_locks
from tune_jobs.errors import StorageError
from tune_jobs.tracking.server import within
from tune_jobs.urls import is_same_database, masked_uri

STUDY, CHECKPOINTS = "study database", "checkpoints"
BUSY_TIMEOUT_S = 8.0
DATE_TIMEOUT_S = 3.0
# Those that the tests run on, and MySQL's that is like them.
OLDEST_KNOWN = {"PostgreSQL": (15,), "MariaDB": (10, 11), "MySQL": (8,)}


def study(url: str, from_variable: str, tracking_uri: str) -> Iterator[Finding]:
    """Yield a line for the database of studies at a URL; raises `StorageError` where it cannot be used."""
    from tune_jobs.study.store import open_database

    if is_same_database(url, tracking_uri):
        found = "the study and MLflow are given the same database, but their tables do not go together"
        yield fault(STUDY, found, "give each a database of its own")
        return

    database = open_database(url)  # and its driver
    where = f"{database.shown}{from_variable}"
    if url.startswith("sqlite"):
        yield study_file(Path(database.shown), where)
        return
    from tune_jobs.study.database.server import ServerDatabase

    assert isinstance(database, ServerDatabase)
    before_s = time.time()
    facts = within(ANSWER_TIMEOUT_S, database.look, what=where)
    after_s = time.time()
    yield server_finding(
        where, facts.product, facts.version, locks=facts.locks, is_writable=facts.is_writable
    )
    ahead = ahead_s(before_s=before_s, theirs_s=facts.clock_s, after_s=after_s)
    yield from clock_notes("the study's database", ahead)


def server_finding(where: str, product: str, version: str, *, locks: bool, is_writable: bool) -> Finding:
    """Return whether a server of databases serves for studies."""
    words = f"{where}, {product} {version}"
    if not is_writable:
        remedy = "give this user the right to make tables, on a server that is no replica"
        return fault(STUDY, f"{words}: it takes no writes of this user", remedy)
    if not locks:
        remedy = "connect to the server itself, not through a pooler"
        return fault(STUDY, f"{words}: it gives no lock, so two launchers could run one search", remedy)
    numbers = tuple(map(int, re.findall(r"\d+", version)))
    if not numbers >= OLDEST_KNOWN[product]:
        oldest = ".".join(map(str, OLDEST_KNOWN[product]))
        return note(STUDY, f"{words}, older than {oldest}", "a newer one, where something fails")
    return ok(STUDY, f"{words}, locks and can be written")


def study_file(path: Path, where: str) -> Finding:
    """Return whether a SQLite file serves for studies, or can be made; a file that is there is not changed.

    Raises `StorageError` where it cannot be used.
    """
    place = existing(path.parent)
    held = probe_locks(place)
    if held is not True:
        return fault(STUDY, f"{place}: {held}", "--study-storage names a file on a local disk, or a server")
    if not path.is_file():
        return ok(STUDY, f"{where}, made by the first search")
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
    """Yield whether something small can be written to a place, read and removed; raises `StorageError`."""
    from tune_jobs.checkpoints.trial_checkpoints import open_store

    where = f"{masked_uri(place)}{from_variable}"
    within(ANSWER_TIMEOUT_S, lambda: open_store(place).check() or True, what=where)
    yield ok(CHECKPOINTS, f"{where}: a probe was written, read and removed")
    if place.startswith("s3://"):
        yield from _clock_of_s3(place)


def _clock_of_s3(place: str) -> Iterator[Finding]:
    """A store signs by the time: where the clocks differ by 15 minutes it refuses every request."""
    query = dict(parse_qsl(urlsplit(place).query))
    endpoint = query.get("endpoint_override", "s3.amazonaws.com")
    before_s = time.time()
    date = _date_of(f"{query.get('scheme', 'https')}://{endpoint}/")
    after_s = time.time()
    if date is not None:
        theirs_s = parsedate_to_datetime(date).timestamp()
        ahead = ahead_s(before_s=before_s, theirs_s=theirs_s, after_s=after_s, resolution_s=SECOND_S)
        yield from clock_notes("the object store", ahead)


def _date_of(url: str) -> str | None:
    """The time that a web server says, whatever else it answers."""
    try:
        with urllib.request.urlopen(url, timeout=DATE_TIMEOUT_S) as response:
            return str(response.headers["Date"])
    except urllib.error.HTTPError as refusal:
        return refusal.headers["Date"]
    except (OSError, ValueError):
        return None
