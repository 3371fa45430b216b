"""A PostgreSQL database of studies: the launcher's lock is the one connection that everything goes through.

A session advisory lock ends with its connection, and a launcher may find out late, when another one holds
the study already. So there is no second connection to write through: a launcher without the lock
cannot change the study.
"""

import hashlib
import os
import re
import socket
import time
from typing import TYPE_CHECKING

import optuna
import sqlalchemy
from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from tune_jobs.database import LOCK_TIMEOUT_S, Database
from tune_jobs.errors import BadInputError
from tune_jobs.lock import TIME_FORMAT, already_running, in_words
from tune_jobs.options import masked

if TYPE_CHECKING:
    from psycopg import Connection

CONNECT_TIMEOUT_S = 10
# A peer that is gone without a word, a machine without power say, is noticed after 25 seconds on both sides:
# the launcher stops, and the server frees the lock. Systems' own defaults are hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
UNANSWERED_MS = 25_000

HOLDER = """
SELECT activity.application_name, extract(epoch FROM activity.backend_start)
FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND (classid::bigint << 32 | objid::bigint) = %s AND datname = current_database()
"""
_APPLICATION = re.compile(r"selfcon (\d+) (.+)")


class PostgreSQLDatabase(Database):
    """A server's, through psycopg; not through a pooler that shares sessions."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise BadInputError(
                "study storage: expected the driver of PostgreSQL to be installed"
                f" (pip install 'psycopg[binary]'), got: {error}"
            ) from error
        super().__init__(masked(url))
        self.failures = (*self.failures, psycopg.Error)
        self._url = sqlalchemy.make_url(url).set(drivername="postgresql+psycopg")
        self._is_held = False
        self._unused: Connection | None = None

    def hold(self, study: str) -> None:
        """Take the advisory lock of the study, on the connection that the storage will use."""
        key = int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big", signed=True)
        with self.used():
            connection = self._connect()
            taken = connection.execute("SELECT pg_try_advisory_lock(%s)", (key,)).fetchone()
            connection.commit()
            if taken == (True,):
                self._is_held, self._unused = True, connection
                return
            with connection:
                holder = _holder(connection, key)
        raise already_running(holder, lock=f"the lock of {study} in {self.shown}")

    def check_before_use(self) -> None:
        """Nothing: to use the connection is to hold the lock."""

    def check(self) -> None:
        """Ask the server for an answer, on the connection that holds the lock."""
        with self.used(), self.storage().engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    def close(self) -> None:
        """Close every connection; the server then frees the lock."""
        super().close()
        if self._unused is not None:
            self._unused.close()

    def _open(self) -> optuna.storages.RDBStorage:
        url = f"{self._url.drivername}://"
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"creator": self._connect})
        if not self._is_held:
            return storage
        # Optuna makes its tables with two connections at a time, and needs one from then on.
        storage.engine.dispose()
        only = {"creator": self._held_connection, "pool_size": 1, "max_overflow": 0}
        return optuna.storages.RDBStorage(
            url, engine_kwargs=only, skip_table_creation=True, skip_compatibility_check=True
        )

    def _held_connection(self) -> "Connection":
        """Return the connection that holds the lock, once: the pool asks again only when it is lost."""
        connection, self._unused = self._unused, None
        if connection is None:
            raise RuntimeError("the connection that held the launcher's lock was lost")
        return connection

    def _connect(self) -> "Connection":
        import psycopg

        # SQLAlchemy's own reading of the URL, with its adapters.
        dialect = PGDialect_psycopg(dbapi=psycopg)
        _, given = dialect.create_connect_args(self._url)
        ours = {
            "application_name": f"selfcon {os.getpid()} {socket.gethostname()}",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": UNANSWERED_MS,
            **KEEPALIVES,
        }
        settings = {
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            **{f"tcp_{name}": value for name, value in KEEPALIVES.items()},
        }
        options = [f"-c {name}={value}" for name, value in settings.items()] + [given.pop("options", "")]
        return psycopg.connect(**{**ours, **given, "options": " ".join(options)})


def _holder(connection: "Connection", key: int) -> str:
    """Return who holds an advisory lock, in words."""
    row = connection.execute(HOLDER, (key,)).fetchone()
    if row is None:
        return "it has just ended"
    named = _APPLICATION.fullmatch(row[0] or "")
    if named is None:
        return "the server does not show its name to this user"
    return in_words(named[1], named[2], time.strftime(TIME_FORMAT, time.localtime(float(row[1]))))
