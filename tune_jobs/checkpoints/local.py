"""Checkpoints in a local folder or a shared file system."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from selfcon.checkpoints.folder import read_checkpoint, write_checkpoint
from tune_jobs.checkpoints.store import PROBE, CheckpointStore, storage_errors


class LocalStore(CheckpointStore):
    """Checkpoints below a folder."""

    def __init__(self, folder: Path) -> None:
        self.where, self._trials = str(folder), folder / "trials"

    def check(self) -> None:
        """As `CheckpointStore.check`; folders created for it are removed."""
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
                for path in filter(Path.is_dir, missing):  # created folders, or the first that failed
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

        A worker that is being stopped may still write there; such files are removed at the next call.
        """
        shutil.rmtree(self._path(trial, name), ignore_errors=True)

    def _path(self, trial: str, name: str) -> Path:
        return self._trials / trial / "checkpoints" / name


def _num_bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:  # removed in between by the worker that wrote it
            continue
    return total
