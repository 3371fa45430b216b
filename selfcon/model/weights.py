"""Loading of external weights: strict, with a one-line error."""

import io
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from selfcon.errors import ConfigError
from selfcon.model.encoder import SelfConEncoder

_MOST_KEYS_NAMED = 3
# Counter of BatchNorm that does not affect the output; older files do not have it.
_COUNTER = ".num_batches_tracked"


def misfit(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """Return the differences of names and shapes from the expected tensors as text, or None.

    Names a few missing keys, unexpected keys, and keys of another shape.
    """
    kinds = {
        "missing": [key for key in expected if key not in found],
        "unexpected": [key for key in found if key not in expected],
        "of another shape": [
            f"{key} {list(found[key].shape)} for {list(value.shape)}"
            for key, value in expected.items()
            if key in found and found[key].shape != value.shape
        ],
    }
    return "; ".join(f"{kind}: {_a_few(keys)}" for kind, keys in kinds.items() if keys) or None


def published_state(encoder: SelfConEncoder) -> dict[str, Tensor]:
    """Return the backbone's parameters and buffers (not copies) under their published names."""
    names = encoder.state_dict_names
    return {names.published(key): value for key, value in encoder.backbone.state_dict().items()}


def load_weights(encoder: SelfConEncoder, path: Path) -> None:
    """Load the state dict `path` into the backbone; sub-networks and heads are unchanged.

    `path` is a `.safetensors` file or a state dict saved by `torch.save`, of torchvision's network with the
    name of the backbone. Its classifier is ignored; all other keys and shapes must match. Torchvision's files
    fit width 64 and, if the family has a small stem, images above 64 pixels. Raises `ConfigError` for
    `model.weights`.
    """
    names = encoder.state_dict_names
    state = {
        key: value for key, value in _read_state_dict(path).items() if not key.startswith(names.classifier)
    }
    expected, found = (_without_counters(tensors) for tensors in (published_state(encoder), state))
    difference = misfit(expected, found)
    if difference:
        raise ConfigError("model.weights", f"the weights of {names.origin}", f"{path}: {difference}")
    keys = _without_counters(encoder.backbone.state_dict())
    encoder.backbone.load_state_dict({key: found[names.published(key)] for key in keys})


def _read_state_dict(path: Path) -> dict[str, Tensor]:
    """Read a file without running code in it."""
    try:
        payload = path.read_bytes()
    except OSError as error:
        raise ConfigError("model.weights", "a file that can be read", f"{path}: {error.strerror}") from error
    expected = "a file with a state dict (tensors by name)"
    try:
        if path.suffix == ".safetensors":
            content = safetensors.torch.load(payload)
        else:
            content = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
    except Exception as error:  # other files can raise any exception
        # Torch's message would advise to load it unsafely.
        got = f"{path}: damaged, or not only tensors ({type(error).__name__})"
        raise ConfigError("model.weights", expected, got) from error
    if not isinstance(content, Mapping):
        raise ConfigError("model.weights", expected, f"{path}: a {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(value, Tensor):
            raise ConfigError("model.weights", expected, f"{path}: a {type(value).__name__} as {key!r}")
    return {str(key): value for key, value in content.items()}


def _without_counters(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if not key.endswith(_COUNTER)}


def _a_few(keys: list[str]) -> str:
    named, others = keys[:_MOST_KEYS_NAMED], len(keys) - _MOST_KEYS_NAMED
    return ", ".join(named) + (f" and {others} more" if others > 0 else "")
