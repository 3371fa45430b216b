"""MySQL or MariaDB database of studies; the launcher's lock is a named lock of its session.

The server reports only the connection that holds a lock, so the holder stores its process and host in an
additional table.
"""

import hashlib
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from sqlalchemy.dialects.mysql.pymysql import MySQLDialect_pymysql

from tune_jobs.errors import BadInputError
from tune_jobs.study.database.database import LOCK_TIMEOUT_S
from tune_jobs.study.database.lock import TIME_FORMAT, holder_text
from tune_jobs.study.database.server import CONNECT_TIMEOUT_S, ServerDatabase, ServerFacts

if TYPE_CHECKING:
    from pymysql.connections import Connection

# A launcher that is paused for a night keeps its lock; the default of the server is 8 hours.
IDLE_TIMEOUT_S = 31_536_000
# A write may wait for a lock; after this time the server is considered unreachable.
ANSWER_MARGIN_S = 10

TABLE = "selfcon_launchers"
CREATE = f"""
CREATE TABLE IF NOT EXISTS {TABLE} (
    lock_name VARCHAR(64) PRIMARY KEY,
    connection BIGINT,
    process BIGINT,
    host VARCHAR(255),
    started VARCHAR(32)
)
"""
RECORD_HOLDER = f"REPLACE INTO {TABLE} VALUES (%s, CONNECTION_ID(), %s, %s, %s)"
HOLDER = f"SELECT process, host, started FROM {TABLE} WHERE lock_name = %s AND connection = IS_USED_LOCK(%s)"
FACTS = "SELECT VERSION(), UNIX_TIMESTAMP(NOW(6)), GET_LOCK(%s, 0) = 1, @@global.read_only = 0"


class MySQLDatabase(ServerDatabase):
    """MySQL or MariaDB database, through PyMySQL."""

    def __init__(self, url: str) -> None:
        try:
            import pymysql
        except ImportError as error:
            raise BadInputError(
                "study storage: expected the MySQL driver to be installed"
                f" (pip install 'pymysql[rsa]'), got: {error}"
            ) from error
        super().__init__(url, drivername="mysql+pymysql", failures=(pymysql.MySQLError,))
        if not self._url.database:
            raise BadInputError(f"study storage: expected a URL that names a database, got {self.shown}")

    def _acquire(self, connection: "Connection[Any]", study: str) -> bool:
        name = self._lock_name(study)
        with connection.cursor() as cursor:
            cursor.execute("SELECT GET_LOCK(%s, 0)", (name,))
            if cursor.fetchone() != (1,):
                return False
            cursor.execute(f"SHOW TABLES LIKE '{TABLE}'")
            if not cursor.fetchone():  # creating an existing table would cause a warning
                cursor.execute(CREATE)
            cursor.execute(
                RECORD_HOLDER, (name, os.getpid(), socket.gethostname(), time.strftime(TIME_FORMAT))
            )
        connection.commit()
        return True

    def _holder(self, connection: "Connection[Any]", study: str) -> str:
        name = self._lock_name(study)
        with connection.cursor() as cursor:
            cursor.execute(f"SHOW TABLES LIKE '{TABLE}'")
            if cursor.fetchone():
                cursor.execute(HOLDER, (name, name))
                found = cursor.fetchone()
                if found:
                    return holder_text(*found)
        return "it has just started, or just ended"

    def _facts(self, connection: "Connection[Any]") -> ServerFacts:
        name = self._lock_name(f"check by process {os.getpid()} on {socket.gethostname()}")
        with connection.cursor() as cursor:
            cursor.execute(FACTS, (name,))
            row = cursor.fetchone()
        assert row is not None
        version, clock, locks, is_writable = row
        product = "MariaDB" if "mariadb" in version.lower() else "MySQL"
        return ServerFacts(product, version.partition("-")[0], float(clock), bool(locks), bool(is_writable))

    def _lock_name(self, study: str) -> str:
        """Name of the lock of a study, at most 64 characters; lock names are global to the server.

        It ignores case, because the server ignores case in the names of studies.
        """
        name = f"{self._url.database}/{study}".lower()
        return f"selfcon-{hashlib.sha256(name.encode()).hexdigest()[:40]}"

    def _connect(self) -> "Connection[Any]":
        import pymysql

        # The connection arguments of SQLAlchemy.
        _, from_url = MySQLDialect_pymysql(dbapi=pymysql).create_connect_args(self._url)
        settings = {
            "innodb_lock_wait_timeout": LOCK_TIMEOUT_S,  # of rows
            "lock_wait_timeout": LOCK_TIMEOUT_S,  # of tables
            "wait_timeout": IDLE_TIMEOUT_S,
            "sql_mode": "CONCAT(@@sql_mode, ',STRICT_ALL_TABLES')",  # never truncate values
            "default_storage_engine": "InnoDB",  # other engines have no transactions
        }
        defaults = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "read_timeout": LOCK_TIMEOUT_S + ANSWER_MARGIN_S,
            "write_timeout": LOCK_TIMEOUT_S + ANSWER_MARGIN_S,
        }
        init_command = "SET SESSION " + ", ".join(f"{name} = {value}" for name, value in settings.items())
        return pymysql.connect(**{**defaults, **from_url, "init_command": init_command})
