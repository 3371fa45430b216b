"""Training states in folders: `<epoch>-a<attempt>`, each either whole or recognised as not.

Each file is synced before the manifest appears under its name, so a crash at any moment leaves a folder whose
manifest is missing or disagrees. What the files hold is told in `selfcon.checkpoints.state`.
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
    """Write `state` into `directory`, made if it is missing; when this returns it is complete on the disk.

    A checkpoint that is already there stops being valid first, so no moment mixes two of them.
    Raises `CheckpointError` for a number that JSON cannot hold (NaN, infinity), `OSError` for a failing disk.
    """
    write_checkpoint(directory, checkpoint_payloads(state, config=config, source=str(directory)))


def write_checkpoint(directory: Path, payloads: Mapping[str, bytes]) -> None:
    """Write what `checkpoint_payloads` returned, as `save_checkpoint` does. Raises `OSError`."""
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

    With `config`, the checkpoint must be of exactly this configuration. Raises `CheckpointError`, which names
    the file, for one that is missing, torn, altered, of another format version or of another configuration.
    """
    return state_of(read_checkpoint(directory), config=config, source=str(directory))


def load_network(network: nn.Module, state: Mapping[str, Tensor], *, source: str) -> None:
    """Put a state dict into a network, all of it and nothing else.

    Raises `CheckpointError`, which begins with `source` and names keys, for the state of another network.
    """
    difference = misfit(network.state_dict(), state)
    if difference:
        raise CheckpointError(f"{source}: of another network: {difference}")
    network.load_state_dict(state)


def is_valid(directory: Path) -> bool:
    """Return whether every file is there and agrees with the manifest."""
    return _flaw(directory) is None


def newest_valid(
    checkpoints: Path, *, passed_over: Callable[[CheckpointError], None] | None = None
) -> Path | None:
    """Return the valid checkpoint of the latest moment in a folder of checkpoints, or None.

    Folders of other names than `checkpoint_name` gives are not looked at; of one moment the highest attempt
    is taken. `passed_over` is told of each newer one that is not valid, in one line: file and reason.
    """
    if not checkpoints.is_dir():
        return None
    ordered = ((order_of_checkpoint(child.name), child) for child in checkpoints.iterdir())
    for _, child in sorted(((order, child) for order, child in ordered if order), reverse=True):
        flaw = _flaw(child)
        if flaw is None:
            return child
        if passed_over is not None:
            passed_over(flaw)
    return None


def _flaw(directory: Path) -> CheckpointError | None:
    try:
        verify_payloads(read_checkpoint(directory), source=str(directory))
    except CheckpointError as error:
        return error
    return None


def read_checkpoint(directory: Path) -> dict[str, bytes]:
    """Return the content of each file that is there, read once: what is checked is what is used."""
    payloads = {}
    for name in (MANIFEST, *CONTENT):
        # Other errors of the disk pass: a store that is away must not look like a lost checkpoint.
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
    """Make the names in a folder durable, not only the files' contents."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
