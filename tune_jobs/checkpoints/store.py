"""Where the checkpoints of a search lie: `trials/0007/checkpoints/<epoch>-a<attempt>/` below one place.

A checkpoint is whole once its manifest is there, which is written last, and valid if that agrees with the
files. Whatever goes wrong with the storage is a `StorageError`.
"""

import shutil
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from selfcon.checkpoints.folder import read_checkpoint, write_checkpoint
from tune_jobs.errors import StorageError

PROBE = "write-check"


class CheckpointStore(ABC):
    """Holds checkpoints by the names of their trial and of themselves; `where` says where, for messages."""

    where: str

    @abstractmethod
    def check(self) -> None:
        """Write, read and remove something small; nothing of it stays."""

    @abstractmethod
    def trials(self) -> dict[str, int]:
        """Return how many bytes the checkpoints of each trial take, whole or not, by the trial's name."""

    @abstractmethod
    def names(self, trial: str) -> list[str]:
        """Return the names of a trial's checkpoints, whole or not."""

    @abstractmethod
    def save(self, trial: str, name: str, payloads: Mapping[str, bytes]) -> None:
        """Store the files in their order, the manifest last; when this returns they are durable."""

    @abstractmethod
    def load(self, trial: str, name: str) -> dict[str, bytes]:
        """Return the content of each file that is there."""

    @abstractmethod
    def remove(self, trial: str, name: str) -> None:
        """Remove a checkpoint; one that is gone already, or half, is no error."""

    def place(self, trial: str, name: str) -> str:
        """Return where a checkpoint is, for messages."""
        return f"{self.where}/trials/{trial}/checkpoints/{name}"


@contextmanager
def storage_errors(where: str) -> Iterator[None]:
    """Raise what the storage refuses as `StorageError`, in one line."""
    try:
        yield
    except OSError as error:
        line = " ".join(str(error).split())
        raise StorageError(f"{where}: the checkpoint storage cannot be used: {line}") from error


class LocalStore(CheckpointStore):
    """Checkpoints in a folder of this machine, or of a file system that machines share."""

    def __init__(self, folder: Path) -> None:
        self.where, self._trials = str(folder), folder / "trials"

    def check(self) -> None:
        """As `CheckpointStore.check`; folders that were made for it go again."""
        folder = Path(self.where)
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        with storage_errors(self.where):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                probe = folder / PROBE
                probe.write_text(PROBE)
                probe.read_text()
                probe.unlink()
            finally:
                for path in filter(Path.is_dir, missing):  # where one could not be made, that is the cause
                    path.rmdir()

    def trials(self) -> dict[str, int]:
        """As `CheckpointStore.trials`."""
        with storage_errors(self.where):
            folders = list(self._trials.iterdir()) if self._trials.is_dir() else []
            return {folder.name: _num_bytes(folder / "checkpoints") for folder in folders}

    def names(self, trial: str) -> list[str]:
        """As `CheckpointStore.names`."""
        folder = self._trials / trial / "checkpoints"
        with storage_errors(self.where):
            return [path.name for path in folder.iterdir()] if folder.is_dir() else []

    def save(self, trial: str, name: str, payloads: Mapping[str, bytes]) -> None:
        """As `CheckpointStore.save`."""
        with storage_errors(self.where):
            write_checkpoint(self._path(trial, name), payloads)

    def load(self, trial: str, name: str) -> dict[str, bytes]:
        """As `CheckpointStore.load`."""
        with storage_errors(self.where):
            return read_checkpoint(self._path(trial, name))

    def remove(self, trial: str, name: str) -> None:
        """As `CheckpointStore.remove`.

        A worker that was just stopped may still write there: what then stays goes the next time.
        """
        shutil.rmtree(self._path(trial, name), ignore_errors=True)

    def _path(self, trial: str, name: str) -> Path:
        return self._trials / trial / "checkpoints" / name


def _num_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # removed meanwhile, by the worker that wrote it
            continue
    return total
