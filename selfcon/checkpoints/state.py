"""State of a training run, and its files as bytes, independent of the storage.

    model.safetensors       the encoder's parameters and buffers
    optimizer.safetensors   the momentum of each parameter
    state.json              finished epochs and steps, metrics of every epoch, losses of the one in progress,
                            the scale of the loss, cost totals, the TrainConfig
    manifest.json           the SHA-256 of the three, to be stored last

Incomplete checkpoints are detected by the manifest. No pickle: loading runs no code.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import safetensors.torch
from safetensors import SafetensorError
from torch import Tensor

from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError

FORMAT_VERSION = 2
MODEL, OPTIMIZER, STATE, MANIFEST = (
    "model.safetensors",
    "optimizer.safetensors",
    "state.json",
    "manifest.json",
)
CONTENT = (MODEL, OPTIMIZER, STATE)
_JSON_FIELDS = ("epoch", "step", "history", "losses", "scaler", "cost", "confusions")


@dataclass(frozen=True, kw_only=True)
class TrainingState:
    """State from which a training run resumes bit-identically.

    `model` is the state dict of the encoder, `optimizer` the momentum buffer of each parameter by name (empty
    before the first step), `epoch` and `step` the numbers of finished epochs and steps, `history[e]` the
    metrics of epoch e (0 is the untrained network), `losses` those of the steps since the last finished
    epoch, `scaler` the state of the gradient scaler (empty except in fp16), `cost` the cost totals,
    `confusions` the newest confusion matrix by its epoch, as JSON values.
    """

    model: dict[str, Tensor]
    optimizer: dict[str, Tensor]
    epoch: int
    step: int
    history: list[dict[str, float]]
    cost: dict[str, float]
    losses: list[float] = field(default_factory=list)
    scaler: dict[str, float] = field(default_factory=dict)
    confusions: dict[str, Any] = field(default_factory=dict)


def checkpoint_payloads(
    state: TrainingState, *, config: TrainConfig, source: str = "the checkpoint"
) -> dict[str, bytes]:
    """Return the content of each file by name, in the order in which they must be stored, manifest last.

    Raises `CheckpointError`, whose message starts with `source`, for a number that JSON cannot store (NaN,
    infinity).
    """
    payloads = {
        MODEL: _tensor_bytes(state.model),
        OPTIMIZER: _tensor_bytes(state.optimizer),
        STATE: _state_bytes(state, config, source),
    }
    digests = {name: hashlib.sha256(payload).hexdigest() for name, payload in payloads.items()}
    manifest = {"version": FORMAT_VERSION, "sha256": digests}
    return {**payloads, MANIFEST: json.dumps(manifest, indent=1).encode()}


def state_of(
    payloads: Mapping[str, bytes], *, config: TrainConfig | None, source: str = "the checkpoint"
) -> TrainingState:
    """Return the state of the files of `checkpoint_payloads`, bit-identical, with tensors on the CPU.

    With `config`, it must have exactly this configuration. Raises `CheckpointError`, whose message starts
    with `source` and names the file, for content that is missing, incomplete, altered, of another format
    version (also older ones) or of another configuration.
    """
    verify_payloads(payloads, source=source)
    saved = _json_object(f"{source}/{STATE}", payloads[STATE])
    if config is not None:
        _check_config(f"{source}/{STATE}", saved.get("config"), config)
    try:
        return TrainingState(
            model=safetensors.torch.load(payloads[MODEL]),
            optimizer=safetensors.torch.load(payloads[OPTIMIZER]),
            **{name: saved[name] for name in _JSON_FIELDS},
        )
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"{source}: not a training state of this version: {error}") from error


def verify_payloads(payloads: Mapping[str, bytes], *, source: str) -> None:
    """Raise `CheckpointError` unless all files exist and match the manifest."""
    path = f"{source}/{MANIFEST}"
    manifest = _json_object(path, _present(payloads, MANIFEST, source))
    if manifest.get("version") != FORMAT_VERSION:
        raise CheckpointError(
            f"{path}: expected format version {FORMAT_VERSION}, got {manifest.get('version')!r}"
        )
    digests = manifest.get("sha256")
    if not isinstance(digests, dict) or set(digests) != set(CONTENT):
        raise CheckpointError(f"{path}: expected a digest of each of {', '.join(CONTENT)}")
    for name in CONTENT:
        if hashlib.sha256(_present(payloads, name, source)).hexdigest() != digests[name]:
            raise CheckpointError(f"{source}/{name}: damaged, its SHA-256 differs from the manifest")


def _present(payloads: Mapping[str, bytes], name: str, source: str) -> bytes:
    if name not in payloads:
        raise CheckpointError(f"{source}/{name}: missing, so the checkpoint is incomplete")
    return payloads[name]


def _tensor_bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    )


def _state_bytes(state: TrainingState, config: TrainConfig, source: str) -> bytes:
    content = {name: getattr(state, name) for name in _JSON_FIELDS} | {"config": config.flat()}
    try:
        return json.dumps(content, allow_nan=False, indent=1).encode()
    except ValueError as error:
        raise CheckpointError(f"{source}/{STATE}: expected finite numbers only, got {error}") from error


def _json_object(path: str, payload: bytes) -> dict[str, Any]:
    try:
        content = json.loads(payload, parse_constant=_reject_constant)
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged, not valid JSON ({error})") from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path}: damaged, expected a JSON object")
    return content


def _reject_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a number of JSON")


def _check_config(path: str, saved: object, config: TrainConfig) -> None:
    wanted = json.loads(json.dumps(config.flat()))
    found = saved if isinstance(saved, dict) else {}
    for name in sorted(wanted.keys() | found.keys()):
        if name not in found or name not in wanted or found[name] != wanted[name]:
            expected, got = (json.dumps(values.get(name, "nothing")) for values in (wanted, found))
            raise CheckpointError(f"{path}: of another configuration: {name} is {got}, expected {expected}")
