"""Database of studies, and the lock that limits each study to one launcher.

SQLite files use a file lock of the operating system. A removed or replaced file is an error; otherwise a new
connection would use the other file. Database servers are in `server.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
import sqlalchemy.exc

from tune_jobs.errors import BadInputError, SearchError, StorageError
from tune_jobs.study.database.lock import LauncherLock

LOCK_TIMEOUT_S = 30  # another process that reads the study may lock it for this long


class Database(ABC):
    """Database of studies; `shown` is its name in messages, without a password.

    Each method raises `StorageError` with one line if the database cannot be used.
    """

    # Errors of the storage: from SQLAlchemy, Optuna and the operating system.
    failures: tuple[type[Exception], ...] = (
        sqlalchemy.exc.SQLAlchemyError,
        optuna.exceptions.OptunaError,
        OSError,
        RuntimeError,
    )

    def __init__(self, shown: str) -> None:
        self.shown = shown
        self._storage: optuna.storages.RDBStorage | None = None

    def storage(self) -> optuna.storages.RDBStorage:
        """Return Optuna's storage, created at the first call and shared by all studies of a launch."""
        if self._storage is None:
            with self.storage_errors():
                self._storage = self._open()
        return self._storage

    @contextmanager
    def storage_errors(self) -> Iterator[None]:
        """Raise errors of the database in the block as `StorageError`."""
        try:
            yield
        except SearchError:
            raise
        except self.failures as error:
            cause = error.__cause__ or error  # the error of the database is more specific than Optuna's
            line = _first_line(cause)
            raise StorageError(f"{self.shown}: the study's database cannot be used: {line}") from error

    @abstractmethod
    def hold(self, study: str) -> None:
        """Lock a study against other launchers until `close` or the end of the process.

        Raises `AlreadyRunningError` with host, process and start of the holder if another launcher holds it.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Return whether the database may contain studies. Creates nothing."""

    @abstractmethod
    def check(self) -> None:
        """Check that the database exists and is locked. Fast enough to be called every second."""

    @abstractmethod
    def check_before_use(self) -> None:
        """Check that the database can be used, without a query."""

    def close(self) -> None:
        """Close all connections, and release the lock of `hold`."""
        if self._storage is not None:
            self._storage.engine.dispose()

    @abstractmethod
    def _open(self) -> optuna.storages.RDBStorage:
        """Create Optuna's storage."""


class SQLiteDatabase(Database):
    """SQLite file of a URL sqlite:///FILE."""

    def __init__(self, url: str) -> None:
        path = sqlalchemy.make_url(url).database
        if not path or path.startswith((":memory:", "file:")):
            raise BadInputError(f"study storage: expected the path of a file, sqlite:///FILE, got {url}")
        super().__init__(str(Path(path).resolve()))
        self._url, self._path = url, Path(self.shown)
        self._lock: LauncherLock | None = None
        self._file: tuple[int, int] | None = None

    def hold(self, study: str) -> None:
        """Lock a file next to the database, because SQLite itself locks the database for each write."""
        name = f"{self._path.name}.{study.replace('/', '+')}.lock"
        with self.storage_errors():
            self._lock = LauncherLock(self._path.with_name(name))

    def exists(self) -> bool:
        """Return whether the file exists."""
        return self._path.is_file()

    def check(self) -> None:
        """Compare the file with the one that was opened."""
        self.check_before_use()

    def check_before_use(self) -> None:
        """Raise `StorageError` if the file was removed or replaced."""
        if self._storage is not None and _identity(self._path) != self._file:
            raise StorageError(f"{self.shown}: the study's database was removed or replaced while in use")

    def close(self) -> None:
        """Close the file and release the lock; the storage cannot be used afterwards."""
        super().close()
        self._file = None
        if self._lock is not None:
            self._lock.release()

    def _open(self) -> optuna.storages.RDBStorage:
        arguments = {"connect_args": {"timeout": LOCK_TIMEOUT_S}}
        storage = optuna.storages.RDBStorage(self._url, engine_kwargs=arguments)
        self._file = _identity(self._path)
        return storage


@contextmanager
def held(database: Database, *, study: str, folder: Path) -> Iterator[None]:
    """Lock a study and the folder of its search, which is created if it is missing.

    Both are locked, because two launchers may use one folder with different databases, or one database with
    different folders. Raises `AlreadyRunningError` if another launcher holds one of them.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = LauncherLock(folder / "launcher.lock")
    except OSError as error:
        raise StorageError(f"{folder}: the search's folder cannot be used: {_first_line(error)}") from error
    try:
        database.hold(study)
        yield
    finally:
        database.close()
        lock.release()


def has_tables(url: str, engine_kwargs: dict[str, Any]) -> bool:
    """Return whether a database has Optuna's tables, without creating them.

    Raises `RuntimeError` if they belong to another version of Optuna.
    """
    kwargs = {**engine_kwargs, "poolclass": sqlalchemy.NullPool}  # no connection stays open
    if not sqlalchemy.inspect(sqlalchemy.create_engine(url, **kwargs)).has_table("studies"):
        return False
    optuna.storages.RDBStorage(url, engine_kwargs=kwargs, skip_table_creation=True)
    return True


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _first_line(error: BaseException) -> str:
    with suppress(IndexError):
        return str(error).splitlines()[0]
    return type(error).__name__
