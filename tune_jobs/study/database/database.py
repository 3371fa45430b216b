"""The database of a study: one launcher holds it, and it stays the same one until that ends.

A SQLite file is held by the operating system's lock on a file beside it. That the file was removed or
replaced is noticed: a new connection would go on with whatever lies there. Servers are `server_database.py`.
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

LOCK_TIMEOUT_S = 30  # another process that looks at the study may lock it for as long


class Database(ABC):
    """Where studies lie; `shown` names it in messages, without a password.

    Each method raises `StorageError`, one line, where the database cannot be used.
    """

    # What the storage raises: SQLAlchemy, Optuna around it, and the operating system.
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
        """Return Optuna's storage there, made at the first call: all studies of a launch share it."""
        if self._storage is None:
            with self.used():
                self._storage = self._open()
        return self._storage

    @contextmanager
    def used(self) -> Iterator[None]:
        """Raise what goes wrong with the database in the block as `StorageError`."""
        try:
            yield
        except SearchError:
            raise
        except self.failures as error:
            cause = error.__cause__ or error  # Optuna's own words say less than the database's
            line = _first_line(cause)
            raise StorageError(f"{self.shown}: the study's database cannot be used: {line}") from error

    @abstractmethod
    def hold(self, study: str) -> None:
        """Keep other launchers out of a study until `close` or the end of the process.

        Raises `AlreadyRunningError`, naming host, process and start of the holder, when there is one.
        """

    @abstractmethod
    def exists(self) -> bool:
        """Return whether studies may be there; nothing is made."""

    @abstractmethod
    def check(self) -> None:
        """Return if the database is there and still ours; quick enough for every second."""

    @abstractmethod
    def check_before_use(self) -> None:
        """Return if the database may be used, as far as that is known without asking it."""

    def close(self) -> None:
        """Close what is open; with it ends what `hold` took."""
        if self._storage is not None:
            self._storage.engine.dispose()

    @abstractmethod
    def _open(self) -> optuna.storages.RDBStorage:
        """Make Optuna's storage."""


class SQLiteDatabase(Database):
    """A file, at the path of a URL like sqlite:///FILE."""

    def __init__(self, url: str) -> None:
        path = sqlalchemy.make_url(url).database
        if not path or path.startswith((":memory:", "file:")):
            raise BadInputError(f"study storage: expected the path of a file, sqlite:///FILE, got {url}")
        super().__init__(str(Path(path).resolve()))
        self._url, self._path = url, Path(self.shown)
        self._lock: LauncherLock | None = None
        self._file: tuple[int, int] | None = None

    def hold(self, study: str) -> None:
        """Lock a file beside the database: SQLite locks the database itself, for each write."""
        name = f"{self._path.name}.{study.replace('/', '+')}.lock"
        with self.used():
            self._lock = LauncherLock(self._path.with_name(name))

    def exists(self) -> bool:
        """Return whether the file is there."""
        return self._path.is_file()

    def check(self) -> None:
        """Compare the file with the one that was opened."""
        self.check_before_use()

    def check_before_use(self) -> None:
        """Raise `StorageError` where another file, or none, lies where the database was."""
        if self._storage is not None and _identity(self._path) != self._file:
            raise StorageError(f"{self.shown}: the study's database was removed or replaced while in use")

    def close(self) -> None:
        """Close the file, and let the next launcher in; who still has the storage can use it no more."""
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
    """Hold a study and the folder of its search, made if it is missing, for one launcher.

    Both, because two launchers may give one folder different databases, or one database different folders.
    Raises `AlreadyRunningError` when another launcher holds one of them.
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
    """Return whether a database holds Optuna's tables, and make none.

    Raises `RuntimeError` where they are those of another version of Optuna.
    """
    kwargs = {**engine_kwargs, "poolclass": sqlalchemy.NullPool}  # nothing stays open, also after an error
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
