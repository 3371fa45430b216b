"""Studies on a database server; the connection that holds the launcher's lock makes all queries.

A session lock ends with its connection. The launcher may detect this late, when another launcher already has
the lock. Since it has no second connection, it cannot write to the study without the lock.
"""

from abc import abstractmethod
from dataclasses import dataclass
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc

from tune_jobs.errors import BadInputError
from tune_jobs.study.database.database import Database, has_tables
from tune_jobs.study.database.lock import already_running
from tune_jobs.urls import masked_uri

CONNECT_TIMEOUT_S = 10


@dataclass(frozen=True)
class ServerFacts:
    """Version, clock (seconds since 1970) and permissions of a server."""

    product: str
    version: str
    clock_s: float
    locks: bool
    is_writable: bool


class ServerDatabase(Database):
    """Database on a server. Connection poolers that share sessions are not supported.

    `drivername` is that of SQLAlchemy, `failures` are the errors of the driver.
    """

    def __init__(self, url: str, *, drivername: str, failures: tuple[type[Exception], ...]) -> None:
        super().__init__(masked_uri(url))
        self.failures = (*self.failures, *failures)
        try:
            self._url = sqlalchemy.make_url(url).set(drivername=drivername)
        except (sqlalchemy.exc.ArgumentError, ValueError):  # for example if the port is not a number
            raise BadInputError(f"study storage: expected a database's URL, got {self.shown}") from None
        self._has_lock = False
        self._lock_connection: Any = None  # until the storage uses it

    @abstractmethod
    def _connect(self) -> Any:
        """Return a new connection of the driver."""

    @abstractmethod
    def _acquire(self, connection: Any, study: str) -> bool:
        """Acquire the lock of a study on a connection; return whether it was free."""

    @abstractmethod
    def _holder(self, connection: Any, study: str) -> str:
        """Return the holder of the lock of a study as text."""

    @abstractmethod
    def _facts(self, connection: Any) -> ServerFacts:
        """Return the facts of the server. A lock acquired for this test ends with the connection."""

    def server_facts(self) -> ServerFacts:
        """Return the facts of the server without writing anything.

        Raises `StorageError` also if Optuna's tables belong to another version.
        """
        with self.storage_errors():
            connection = self._connect()
            try:
                facts = self._facts(connection)
            finally:
                connection.close()
            has_tables(f"{self._url.drivername}://", {"creator": self._connect})
        return facts

    def exists(self) -> bool:
        """Return whether Optuna's tables exist."""
        with self.storage_errors():
            return has_tables(f"{self._url.drivername}://", {"creator": self._connect})

    def hold(self, study: str) -> None:
        """Acquire the lock of the study on the connection that the storage will use."""
        with self.storage_errors():
            connection = self._connect()
            if self._acquire(connection, study):
                self._has_lock, self._lock_connection = True, connection
                return
            try:
                holder = self._holder(connection, study)
            finally:
                connection.close()
        raise already_running(holder, lock=f"the lock of {study} in {self.shown}")

    def check_before_use(self) -> None:
        """Do nothing: the connection in use is the one that holds the lock."""

    def check(self) -> None:
        """Query the server on the connection that holds the lock."""
        with self.storage_errors(), self.storage().engine.connect() as connection:
            connection.execute(sqlalchemy.text("SELECT 1"))

    def close(self) -> None:
        """Close every connection, which releases the lock."""
        super().close()
        if self._lock_connection is not None:
            self._lock_connection.close()

    def _open(self) -> optuna.storages.RDBStorage:
        url = f"{self._url.drivername}://"
        storage = optuna.storages.RDBStorage(url, engine_kwargs={"creator": self._connect})
        if not self._has_lock:
            return storage
        # Optuna creates its tables with two concurrent connections, and needs one afterwards.
        storage.engine.dispose()
        single = {"creator": self._pop_lock_connection, "pool_size": 1, "max_overflow": 0}
        return optuna.storages.RDBStorage(
            url, engine_kwargs=single, skip_table_creation=True, skip_compatibility_check=True
        )

    def _pop_lock_connection(self) -> Any:
        """Return the connection that holds the lock. The pool calls this again only if it was lost."""
        connection, self._lock_connection = self._lock_connection, None
        if connection is None:
            raise RuntimeError("the connection that held the launcher's lock was lost")
        return connection
