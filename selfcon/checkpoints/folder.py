"""Checkpoints in folders `<epoch>-a<attempt>`; incomplete ones are detected.

All files are synced before the manifest is renamed into place, so after a crash the manifest is missing or
does not match. `selfcon.checkpoints.state` describes the files.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor, nn

from selfcon.checkpoints.names import checkpoint_name, order_of_checkpoint
from selfcon.checkpoints.state import (
    CONTENT,
    MANIFEST,
    TrainingState,
    checkpoint_payloads,
    state_of,
    verify_payloads,
)
from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError
from selfcon.model.weights import misfit

__all__ = [
    "TrainingState", "checkpoint_name", "is_valid", "load_checkpoint", "load_network", "newest_valid",
    "order_of_checkpoint", "read_checkpoint", "save_checkpoint", "write_checkpoint",
]  # fmt: skip


def save_checkpoint(directory: Path, state: TrainingState, *, config: TrainConfig) -> None:
    """Write `state` to `directory`, which is created if it is missing; it is durable when this returns.

    An existing checkpoint there is invalidated first, so two are never mixed. Raises `CheckpointError` for a
    number that JSON cannot store (NaN, infinity), `OSError` if the disk fails.
    """
    write_checkpoint(directory, checkpoint_payloads(state, config=config, source=str(directory)))


def write_checkpoint(directory: Path, payloads: Mapping[str, bytes]) -> None:
    """Write the files of `checkpoint_payloads`, as `save_checkpoint` does. Raises `OSError`."""
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    _sync_directory(directory)
    for name in CONTENT:
        _write_synced(directory / name, payloads[name])
    temporary = directory / f"{MANIFEST}.tmp"
    _write_synced(temporary, payloads[MANIFEST])
    temporary.replace(directory / MANIFEST)
    for folder in (directory, *(folder.parent for folder in made)):
        _sync_directory(folder)


def load_checkpoint(directory: Path, *, config: TrainConfig | None) -> TrainingState:
    """Return the state saved in `directory`, bit for bit, its tensors on the CPU.

    With `config`, the checkpoint must have exactly this configuration. Raises `CheckpointError` with the name
    of the file if one is missing, incomplete, altered, of another format version or configuration.
    """
    return state_of(read_checkpoint(directory), config=config, source=str(directory))


def load_network(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Load a state dict strictly into a network.

    Raises `CheckpointError`, whose message starts with `source` and names keys, for the state of another
    network.
    """
    difference = misfit(network.state_dict(), state)
    if difference:
        raise CheckpointError(f"{source}: of another network: {difference}")
    network.load_state_dict(state)


def is_valid(directory: Path) -> bool:
    """Return whether every file exists and matches the manifest."""
    return _flaw(directory) is None


def newest_valid(
    checkpoints: Path, *, on_invalid: Callable[[CheckpointError], None] | None = None
) -> Path | None:
    """Return the newest valid checkpoint in a folder of checkpoints, or None.

    Other folders than those of `checkpoint_name` are ignored. For equal epoch and step the highest attempt
    counts. `on_invalid` is called with the file and the reason of each newer checkpoint that is not valid.
    """
    if not checkpoints.is_dir():
        return None
    ordered = ((order_of_checkpoint(child.name), child) for child in checkpoints.iterdir())
    for _, child in sorted(((order, child) for order, child in ordered if order), reverse=True):
        flaw = _flaw(child)
        if flaw is None:
            return child
        if on_invalid is not None:
            on_invalid(flaw)
    return None


def _flaw(directory: Path) -> CheckpointError | None:
    try:
        verify_payloads(read_checkpoint(directory), source=str(directory))
    except CheckpointError as error:
        return error
    return None


def read_checkpoint(directory: Path) -> dict[str, bytes]:
    """Return the content of each existing file, read once, so that the verified bytes are the used ones."""
    payloads = {}
    for name in (MANIFEST, *CONTENT):
        # Other errors of the disk are raised: an unavailable disk is not a missing checkpoint.
        try:
            payloads[name] = (directory / name).read_bytes()
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            continue
    return payloads


def _write_synced(path: Path, payload: bytes) -> None:
    with path.open("wb") as file:
        file.write(payload)
        file.flush()
        os.fsync(file.fileno())


def _sync_directory(path: Path) -> None:
    """Sync a folder, so that the names of its files are durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
