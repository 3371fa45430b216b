"""Storage of checkpoints, as `trials/0007/checkpoints/<epoch>-a<attempt>/` below one location.

The manifest is written last: a checkpoint is complete if it has one, and valid if the files match it. All
errors of the storage are raised as `StorageError`.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tune_jobs.errors import StorageError

PROBE = "write-check"


class CheckpointStore(ABC):
    """Stores checkpoints by trial name and checkpoint name. Messages show the location `where`."""

    where: str

    @abstractmethod
    def check(self) -> None:
        """Write, read and remove a small test file."""

    @abstractmethod
    def trials(self) -> dict[str, int]:
        """Return the size in bytes of the checkpoints of each trial, including incomplete ones."""

    @abstractmethod
    def names(self, trial: str) -> list[str]:
        """Return the names of a trial's checkpoints, including incomplete ones."""

    @abstractmethod
    def save(self, trial: str, name: str, payloads: Mapping[str, bytes]) -> None:
        """Store the files in order, the manifest last; they are durable when this returns."""

    @abstractmethod
    def load(self, trial: str, name: str) -> dict[str, bytes]:
        """Return the content of each existing file."""

    @abstractmethod
    def remove(self, trial: str, name: str) -> None:
        """Remove a checkpoint; a missing or incomplete one is not an error."""

    def location(self, trial: str, name: str) -> str:
        """Return the location of a checkpoint for messages."""
        return f"{self.where}/trials/{trial}/checkpoints/{name}"


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Raise errors of the storage as `StorageError`, with a one-line message."""
    try:
        yield
    except OSError as error:
        line = " ".join(str(error).split())
        raise StorageError(f"{where}: the checkpoint storage cannot be used: {line}") from error


def open_store(place: str) -> CheckpointStore:
    """Return the store of a folder or an s3:// URI. Raises `StorageError` if it cannot be used.

    `urls.is_checkpoint_storage` says which places are accepted.
    """
    if place.startswith("s3://"):
        from tune_jobs.checkpoints.s3 import ObjectStore

        return ObjectStore(place)
    from tune_jobs.checkpoints.local import LocalStore

    return LocalStore(Path(place))
