"""Export of an encoder: plain files that can be verified and contain no code, and loading them.

encoder.safetensors     the parameters and buffers of the whole network, in float32
probes.safetensors      a linear layer on each exit's features: `weights` (E, K, D) and `biases` (E, K)
backbone.safetensors    the backbone alone, under torchvision's names
encoder.json            its configuration and origin, the normalisation of pixels, the SHA-256 of the others
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from selfcon.checkpoints.folder import load_checkpoint, load_network
from selfcon.checkpoints.state import TrainingState
from selfcon.config import TrainConfig
from selfcon.data.dataset import ImageDataset
from selfcon.errors import CheckpointError
from selfcon.evaluation.probe import Probes
from selfcon.losses.objective import num_classes_of_heads
from selfcon.model import SelfConEncoder, build_encoder
from selfcon.model.weights import published_state
from selfcon.pixel_encoder import PixelEncoder

__all__ = [
    "PixelEncoder", "encoder_of_checkpoint", "load_encoder", "save_backbone", "save_encoder",
    "torchvision_state_dict",
]  # fmt: skip

FORMAT_VERSION = 2
WEIGHTS, PROBES, BACKBONE = "encoder.safetensors", "probes.safetensors", "backbone.safetensors"
DESCRIPTION = "encoder.json"


def save_encoder(
    directory: Path,
    *,
    encoder: SelfConEncoder,
    config: TrainConfig,
    dataset: ImageDataset,
    metrics: Mapping[str, float],
    probes: Probes | None = None,
) -> None:
    """Write the files to `directory`, which is created if it is missing; the description is written last.

    `probes` are the linear layers on the features of the exits. Metrics must be finite. Raises `OSError` if
    the disk fails.
    """
    files = {WEIGHTS: _bytes(encoder.state_dict()), BACKBONE: _bytes(torchvision_state_dict(encoder))}
    if probes is not None:
        files[PROBES] = _bytes({"weights": probes.weights, "biases": probes.biases})
    description = {
        "version": FORMAT_VERSION,
        "sha256": {name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
        "config": config.flat(),
        "dataset": dataset.name,
        "data_digest": dataset.digest,
        "image_size": dataset.image_size,
        "mean": dataset.mean,
        "std": dataset.std,
        "class_names": dataset.class_names,
        "exit_stages": encoder.exit_stages,
        "feature_dim": encoder.feature_dim,
        "metrics": dict(metrics),
    }
    directory.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=1, allow_nan=False), encoding="utf-8")


def torchvision_state_dict(encoder: SelfConEncoder) -> dict[str, Tensor]:
    """Return copies of the backbone's weights under torchvision's names, in float32 on the CPU.

    Torchvision's network of the same name loads them strictly if its classifier is `nn.Identity`, and then
    gives the features of the backbone, if that has width 64, images above 64 pixels, and
    `model.normalization` batch or frozen. Normalise images as in training. In other cases:

    * up to 64 pixels, replace the stem first: a ResNet's `conv1` by a 3x3 convolution of stride 1 and its
      `maxpool` by `nn.Identity`, a ConvNeXt's `features[0][0]` likewise; in an EfficientNet set the strides
      of `features[0]` and of the first block of `features[2]` to 1, in a RegNet those of `stem` and `block1`;
    * the features of a VGG are averaged maps, so replace its `avgpool` by `nn.AdaptiveAvgPool2d(1)`;
    * the last normalisation of a ConvNeXt is in `classifier`, so replace only `[2]` by `nn.Identity`;
    * torchvision has no wide ResNets of this type; their names are defined here.
    """
    return {name: _portable(value).clone() for name, value in published_state(encoder).items()}


def save_backbone(path: Path, encoder: SelfConEncoder) -> None:
    """Write `torchvision_state_dict(encoder)` to the safetensors file `path`; creates its folder.

    `model.weights` reads such a file. Raises `OSError` if the disk fails.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(_bytes(torchvision_state_dict(encoder)))


def load_encoder(path: Path | str, *, exit_stage: int | None = None) -> PixelEncoder:
    """Load an encoder that `save_encoder` has saved, on the CPU, after verifying the SHA-256 of every file.

    Args:
        path: The folder of the encoder.
        exit_stage: The stage of the exit whose features are returned; None for the backbone.

    Returns:
        A module that maps float32 images in [0, 1] or uint8 images, (N, 3, H, W), to features (N, D). Torch's
        random generator is not changed.

    Raises:
        CheckpointError: A file is missing, altered or of another format version; the message names it.
        ConfigError: The encoder has no exit after this stage.

    Example:
        >>> import tempfile, torch
        >>> from selfcon import TrainConfig, build_encoder, load_dataset
        >>> from selfcon.export import save_encoder
        >>> config = TrainConfig.from_flat({"data.image_size": 8, "model.width": 4})
        >>> dataset = load_dataset(config.data)
        >>> trained = build_encoder(config.model, image_size=dataset.image_size)
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_encoder(Path(folder), encoder=trained, config=config, dataset=dataset, metrics={})
        ...     encoder = load_encoder(folder)
        >>> encoder(torch.rand(2, 3, 8, 8)).shape
        torch.Size([2, 32])
    """
    directory = Path(path)
    description = _description(directory / DESCRIPTION)
    contents = {name: _verified(directory / name, digest) for name, digest in description["sha256"].items()}
    try:
        encoder = _build(
            TrainConfig.from_flat(description["config"]),
            image_size=description["image_size"],
            num_classes=len(description["class_names"]),
        )
        weights = safetensors.torch.load(contents[WEIGHTS])
        load_network(encoder, weights, source=str(directory / WEIGHTS))
        return PixelEncoder(
            encoder,
            mean=tuple(description["mean"]),
            std=tuple(description["std"]),
            exit_stage=exit_stage,
            probes=Probes(**safetensors.torch.load(contents[PROBES])) if PROBES in contents else None,
            class_names=description["class_names"],
        )
    except (KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: not an encoder of this version: {_first_line(error)}") from error


def encoder_of_checkpoint(
    checkpoint: Path | TrainingState, *, config: TrainConfig, dataset: ImageDataset
) -> SelfConEncoder:
    """Return the network of a checkpoint of `config`, in the precision of the run, in evaluation mode.

    Raises `CheckpointError` for a damaged checkpoint or one of another configuration.
    """
    state = (
        checkpoint if isinstance(checkpoint, TrainingState) else load_checkpoint(checkpoint, config=config)
    )
    encoder = _build(config, image_size=dataset.image_size, num_classes=len(dataset.class_names))
    encoder.to(next(value.dtype for value in state.model.values() if value.is_floating_point()))
    load_network(encoder, state.model, source="the checkpoint" if state is checkpoint else str(checkpoint))
    return encoder.eval()


def _build(config: TrainConfig, *, image_size: int, num_classes: int) -> SelfConEncoder:
    """The network with initial weights, which the caller replaces."""
    of_heads = num_classes_of_heads(config, num_classes=num_classes)
    with torch.random.fork_rng(devices=[]):
        return build_encoder(config.model, image_size=image_size, num_classes=of_heads)


def _bytes(tensors: Mapping[str, Tensor]) -> bytes:
    return safetensors.torch.save({name: _portable(value) for name, value in tensors.items()})


def _portable(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.float() if value.is_floating_point() else value


def _description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged, not valid JSON ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION or not isinstance(content.get("sha256"), dict):
        raise CheckpointError(f"{path}: expected format version {FORMAT_VERSION}, got {version!r}")
    return dict(content)


def _verified(path: Path, digest: str) -> bytes:
    content = _read(path)
    if hashlib.sha256(content).hexdigest() != digest:
        raise CheckpointError(f"{path}: damaged, its SHA-256 is not that of {DESCRIPTION}")
    return content


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{path}: missing") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
