"""PostgreSQL database of studies; the launcher's lock is a session advisory lock."""

import hashlib
import os
import re
import socket
import time
from typing import TYPE_CHECKING

from sqlalchemy.dialects.postgresql.psycopg import PGDialect_psycopg

from tune_jobs.errors import BadInputError
from tune_jobs.study.database.database import LOCK_TIMEOUT_S
from tune_jobs.study.database.lock import TIME_FORMAT, holder_text
from tune_jobs.study.database.server import CONNECT_TIMEOUT_S, ServerDatabase, ServerFacts

if TYPE_CHECKING:
    from psycopg import Connection

# A peer that disappears, for example after a power failure, is detected after 25 seconds on both sides: the
# launcher stops, and the server releases the lock. The defaults of operating systems are hours.
KEEPALIVES = {"keepalives_idle": 10, "keepalives_interval": 5, "keepalives_count": 3}
TCP_USER_TIMEOUT_MS = 25_000

HOLDER = """
SELECT activity.application_name, extract(epoch FROM activity.backend_start)
FROM pg_locks JOIN pg_stat_activity AS activity USING (pid)
WHERE locktype = 'advisory' AND granted AND objsubid = 1
AND (classid::bigint << 32 | objid::bigint) = %s AND datname = current_database()
"""
FACTS = """
SELECT current_setting('server_version'), extract(epoch FROM clock_timestamp()), pg_try_advisory_lock(%s),
current_setting('transaction_read_only') = 'off' AND has_schema_privilege(current_schema(), 'CREATE')
"""
_APPLICATION = re.compile(r"selfcon (\d+) (.+)")


class PostgreSQLDatabase(ServerDatabase):
    """PostgreSQL database, through psycopg."""

    def __init__(self, url: str) -> None:
        try:
            import psycopg
        except ImportError as error:
            raise BadInputError(
                "study storage: expected the PostgreSQL driver to be installed"
                f" (pip install 'psycopg[binary]'), got: {error}"
            ) from error
        super().__init__(url, drivername="postgresql+psycopg", failures=(psycopg.Error,))

    def _acquire(self, connection: "Connection", study: str) -> bool:
        acquired = connection.execute("SELECT pg_try_advisory_lock(%s)", (_key(study),)).fetchone()
        connection.commit()
        return acquired == (True,)

    def _holder(self, connection: "Connection", study: str) -> str:
        row = connection.execute(HOLDER, (_key(study),)).fetchone()
        if row is None:
            return "it has just ended"
        match = _APPLICATION.fullmatch(row[0] or "")
        if match is None:
            return "the server does not show its name to this user"
        return holder_text(match[1], match[2], time.strftime(TIME_FORMAT, time.localtime(float(row[1]))))

    def _facts(self, connection: "Connection") -> ServerFacts:
        key = _key(f"check by process {os.getpid()} on {socket.gethostname()}")
        row = connection.execute(FACTS, (key,)).fetchone()
        assert row is not None
        version, clock, locks, is_writable = row
        return ServerFacts("PostgreSQL", version.split()[0], float(clock), locks, bool(is_writable))

    def _connect(self) -> "Connection":
        import psycopg

        # The connection arguments of SQLAlchemy, with its adapters.
        dialect = PGDialect_psycopg(dbapi=psycopg)
        _, from_url = dialect.create_connect_args(self._url)
        defaults = {
            "application_name": f"selfcon {os.getpid()} {socket.gethostname()}",
            "connect_timeout": CONNECT_TIMEOUT_S,
            "tcp_user_timeout": TCP_USER_TIMEOUT_MS,
            **KEEPALIVES,
        }
        settings = {
            "lock_timeout": f"{LOCK_TIMEOUT_S}s",
            **{f"tcp_{name}": value for name, value in KEEPALIVES.items()},
        }
        options = [f"-c {name}={value}" for name, value in settings.items()] + [from_url.pop("options", "")]
        return psycopg.connect(**{**defaults, **from_url, "options": " ".join(options)})


def _key(study: str) -> int:
    return int.from_bytes(hashlib.sha256(study.encode()).digest()[:8], "big", signed=True)
