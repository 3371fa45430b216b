"""Save and load a training run exactly: a folder of plain files that is either whole or recognised as not.

    model.safetensors       the encoder's parameters and buffers
    optimizer.safetensors   the momentum of each parameter
    state.json              finished epochs and steps, metrics of every epoch, cost totals, the TrainConfig
    manifest.json           the SHA-256 of the three, written last

Each file is synced before the manifest appears under its name, so a crash at any moment leaves a folder whose
manifest is missing or disagrees. No pickle: loading runs no code.
"""

import hashlib
import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor, nn

from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError
from selfcon.model.weights import misfit

FORMAT_VERSION = 1
MODEL, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
_FILES = (MODEL, OPTIMIZER, STATE)
_FOLDER = re.compile(r"(?P<epoch>\d+)-a(?P<attempt>\d+)")


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """All that a training run needs to go on as if it had never stopped.

    `model` is the encoder's state dict, `optimizer` the momentum buffer of each parameter by its name (empty
    before the first step), `epoch` and `step` count what is finished, `history[e]` holds the metrics of
    epoch e (0 is the untrained network), `cost` the totals that go on counting.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    epoch: int
    step: int
    history: list[dict[str, float]]
    cost: dict[str, float]


def save_checkpoint(directory: Path, state: TrainingState, *, config: TrainConfig) -> None:
    """Write `state` into `directory`, made if it is missing; when this returns it is complete on the disk.

    A checkpoint that is already there stops being valid first, so no moment mixes two of them.
    Raises `CheckpointError` for a number that JSON cannot hold (NaN, infinity), `OSError` for a failing disk.
    """
    payloads = {
        MODEL: _tensor_bytes(state.model),
        OPTIMIZER: _tensor_bytes(state.optimizer),
        STATE: _state_bytes(directory / STATE, state, config),
    }
    made = [folder for folder in (directory, *directory.parents) if not folder.exists()]
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MANIFEST).unlink(missing_ok=True)
    _sync_directory(directory)
    for name, payload in payloads.items():
        _write_synced(directory / name, payload)
    digests = {name: hashlib.sha256(payload).hexdigest() for name, payload in payloads.items()}
    manifest = json.dumps({"version": FORMAT_VERSION, "sha256": digests}, indent=1).encode()
    temporary = directory / f"{MANIFEST}.tmp"
    _write_synced(temporary, manifest)
    temporary.replace(directory / MANIFEST)
    for folder in (directory, *(folder.parent for folder in made)):
        _sync_directory(folder)


def load_checkpoint(directory: Path, *, config: TrainConfig | None) -> TrainingState:
    """Return the state saved in `directory`, bit for bit, its tensors on the CPU.

    With `config`, the checkpoint must be of exactly this configuration. Raises `CheckpointError`, which names
    the file, for one that is missing, torn, altered, of another format version or of another configuration.
    """
    payloads = _verified_payloads(directory)
    saved = _json_object(directory / STATE, payloads[STATE])
    if config is not None:
        _check_config(directory / STATE, saved.get("config"), config)
    try:
        return TrainingState(
            model=safetensors.torch.load(payloads[MODEL]),
            optimizer=safetensors.torch.load(payloads[OPTIMIZER]),
            **{name: saved[name] for name in ("epoch", "step", "history", "cost")},
        )
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: not a training state of this version: {error}") from error


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
    try:
        _verified_payloads(directory)
    except CheckpointError:
        return False
    return True


def newest_valid(checkpoints: Path) -> Path | None:
    """Return the valid checkpoint of the highest epoch in a folder of `<epoch>-a<attempt>` folders, or None.

    Damaged ones, and whatever has another name, are passed over; of one epoch the highest attempt is taken.
    """
    if not checkpoints.is_dir():
        return None
    named = ((_FOLDER.fullmatch(child.name), child) for child in checkpoints.iterdir())
    ranked = [(int(name["epoch"]), int(name["attempt"]), child) for name, child in named if name]
    return next((child for _, _, child in sorted(ranked, reverse=True) if is_valid(child)), None)


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    )


def _state_bytes(path: Path, state: TrainingState, config: TrainConfig) -> bytes:
    content = {
        "epoch": state.epoch,
        "step": state.step,
        "history": state.history,
        "cost": state.cost,
        "config": config.flat(),
    }
    try:
        return json.dumps(content, allow_nan=False, indent=1).encode()
    except ValueError as error:
        raise CheckpointError(f"{path}: expected finite numbers only, got {error}") from error


def _verified_payloads(directory: Path) -> dict[str, bytes]:
    """The content of each file, read once: what is checked is what is used."""
    path = directory / MANIFEST
    manifest = _json_object(path, _read(path))
    if manifest.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected format version {FORMAT_VERSION}, got {manifest.get('version')!r}"
        )
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or set(digests) != set(_FILES):
        raise CheckpointError(f"{path}: expected a digest of each of {', '.join(_FILES)}")
    payloads = {name: _read(directory / name) for name in _FILES}
    for name, payload in payloads.items():
        if hashlib.sha256(payload).hexdigest() != digests[name]:
            raise CheckpointError(f"{directory / name}: damaged, its SHA-256 is not the manifest's")
    return payloads


def _read(path: Path) -> bytes:
    # Other errors of the disk pass: a store that is away for a moment must not look like a lost checkpoint.
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        raise CheckpointError(f"{path}: missing, so the checkpoint is incomplete") from error


def _json_object(path: Path, payload: bytes) -> dict[str, Any]:
    try:
        content = json.loads(payload, parse_constant=_refuse_constant)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged, not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: damaged, expected a JSON object")
    return content


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check_config(path: Path, saved: object, config: TrainConfig) -> None:
    wanted = json.loads(json.dumps(config.flat()))
    found = saved if isinstance(saved, dict) else {}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted or found[name] != wanted[name]:
            expected, got = (json.dumps(values.get(name, "nothing")) for values in (wanted, found))
            raise CheckpointError(f"{path}: of another configuration: {name} is {got}, expected {expected}")


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
