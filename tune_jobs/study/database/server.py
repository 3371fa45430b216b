"""A database server of studies: the launcher's lock is the one connection that everything goes through.

A lock of a session ends with its connection, and a launcher may find out late, when another one holds the
study already. So there is no second connection to write through: a launcher without the lock cannot change
the study.
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
    """What a server says of itself; its clock in seconds since 1970."""

    product: str
    version: str
    clock_s: float
    locks: bool
    is_writable: bool


class ServerDatabase(Database):
    """A server's, by its URL; not through a pooler that shares sessions. `drivername` is SQLAlchemy's."""

    def __init__(self, url: str, *, drivername: str, failures: tuple[type[Exception], ...]) -> None:
        super().__init__(masked_uri(url))
        self.failures = (*self.failures, *failures)
        try:
            self._url = sqlalchemy.make_url(url).set(drivername=drivername)
        except (sqlalchemy.exc.ArgumentError, ValueError):  # a port that is no number, say
            raise BadInputError(f"study storage: expected a database's URL, got {self.shown}") from None
        self._is_held = False
        self._unused: Any = None  # the connection that holds the lock, until the storage takes it

    @abstractmethod
    def _connect(self) -> Any:
        """Return a new connection, by the driver's own words."""

    @abstractmethod
    def _take(self, connection: Any, study: str) -> bool:
        """Take the lock of a study for the life of a connection; return whether it was free."""

    @abstractmethod
    def _holder(self, connection: Any, study: str) -> str:
        """Return who holds the lock of a study, in words."""

    @abstractmethod
    def _facts(self, connection: Any) -> ServerFacts:
        """Return what the server says of itself; a lock that is taken for it goes with the connection."""

    def look(self) -> ServerFacts:
        """Return what the server says of itself; nothing is written.

        Raises `StorageError` also where Optuna's tables are there, but of another version.
        """
        with self.used():
            connection = self._connect()
            try:
                facts = self._facts(connection)
            finally:
                connection.close()
            has_tables(f"{self._url.drivername}://", {"creator": self._connect})
        return facts

    def exists(self) -> bool:
        """Return whether Optuna's tables are there."""
        with self.used():
            return has_tables(f"{self._url.drivername}://", {"creator": self._connect})

    def hold(self, study: str) -> None:
        """Take the lock of the study, on the connection that the storage will use."""
        with self.used():
            connection = self._connect()
            if self._take(connection, study):
                self._is_held, self._unused = True, connection
                return
            try:
                holder = self._holder(connection, study)
            finally:
                connection.close()
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

    def _held_connection(self) -> Any:
        """Return the connection that holds the lock, once: the pool asks again only when it is lost."""
        connection, self._unused = self._unused, None
        if connection is None:
            raise RuntimeError("the connection that held the launcher's lock was lost")
        return connection
