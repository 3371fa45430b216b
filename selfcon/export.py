"""The encoder as a product: pixels in, features out, in two plain files that can be checked and run no code.

    encoder.safetensors    the parameters and buffers of the whole network, in float32
    encoder.json           how it is built and was made, how pixels are normalised, the SHA-256 of the other

Shape letters: N images, C = 3 channels, H height, W width, D feature dimensions.
"""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor, nn

from selfcon.checkpoint import load_checkpoint, load_network
from selfcon.config import TrainConfig
from selfcon.data.augment import normalise
from selfcon.data.dataset import ImageDataset
from selfcon.errors import CheckpointError, ConfigError
from selfcon.model import SelfConEncoder, build_encoder
from selfcon.model.weights import published_state
from selfcon.objective import num_classes_of_heads
from selfcon.training_state import TrainingState

FORMAT_VERSION = 1
WEIGHTS, DESCRIPTION = "encoder.safetensors", "encoder.json"


class PixelEncoder(nn.Module):
    """Images to features: normalisation, the network, and one of its exits. Always in evaluation mode.

    `exit_stage` is the stage after which the sub-network leaves; None is the backbone. Raises `ConfigError`
    for a stage without an exit.
    """

    def __init__(
        self,
        encoder: SelfConEncoder,
        *,
        mean: tuple[float, float, float],
        std: tuple[float, float, float],
        exit_stage: int | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.feature_dim = encoder.feature_dim
        self.mean, self.std = mean, std
        self._exit = _exit_index(encoder.exit_stages, exit_stage)
        self.eval()

    def train(self, mode: bool = True) -> "PixelEncoder":
        """Stay in evaluation mode: features must not depend on what else is in the batch."""
        del mode
        super().train(False)
        return self

    def forward(self, images_NCHW: Tensor) -> Tensor:
        """Return the features (N, D) in float32 of images (N, 3, H, W): float32 in [0, 1], or uint8.

        Any N and, to the accuracy the network has there, any H and W. Raises `ConfigError` for another shape
        or type.
        """
        pixels = _pixels(images_NCHW).to(next(self.encoder.parameters()).dtype)
        features = self.encoder.features(normalise(pixels, mean=self.mean, std=self.std))
        return features[self._exit].float()


def save_encoder(
    directory: Path,
    *,
    encoder: SelfConEncoder,
    config: TrainConfig,
    dataset: ImageDataset,
    metrics: Mapping[str, float],
) -> None:
    """Write the two files into `directory`, made if missing; the description last, so it vouches for a whole.

    Metrics must be finite. Raises `OSError` for a failing disk.
    """
    weights = safetensors.torch.save({name: _portable(value) for name, value in encoder.state_dict().items()})
    description = {
        "version": FORMAT_VERSION,
        "sha256": hashlib.sha256(weights).hexdigest(),
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
    (directory / WEIGHTS).write_bytes(weights)
    (directory / DESCRIPTION).write_text(json.dumps(description, indent=1, allow_nan=False), encoding="utf-8")


def torchvision_state_dict(encoder: SelfConEncoder) -> dict[str, Tensor]:
    """Return copies of the backbone's weights under torchvision's names, in float32 on the CPU.

    Torchvision's network of the same name takes them strictly once its classifier is `nn.Identity`, and then
    gives the backbone's features, if the backbone was built at width 64 for images above 64 pixels, with
    `model.normalization` batch or frozen. In front of that, images are normalised as in training. Elsewhere:

    * up to 64 pixels, replace the stem first: a ResNet's `conv1` by a 3x3 convolution of stride 1 and its
      `maxpool` by `nn.Identity`, a ConvNeXt's `features[0][0]` likewise; in an EfficientNet set the strides
      of `features[0]` and of the first block of `features[2]` to 1, in a RegNet those of `stem` and `block1`;
    * a VGG's features are its maps averaged, so its `avgpool` becomes `nn.AdaptiveAvgPool2d(1)`;
    * a ConvNeXt's last normalisation is in `classifier`, of which only `[2]` becomes `nn.Identity`;
    * torchvision has no wide ResNets of this kind: their names are our own.
    """
    return {name: _portable(value).clone() for name, value in published_state(encoder).items()}


def save_backbone(path: Path, encoder: SelfConEncoder) -> None:
    """Write `torchvision_state_dict(encoder)` to `path`, a safetensors file, its folder made if missing.

    It is what `model.weights` reads. Raises `OSError` for a failing disk.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(safetensors.torch.save(torchvision_state_dict(encoder)))


def load_encoder(path: Path | str, *, exit_stage: int | None = None) -> PixelEncoder:
    """Return the encoder saved in the directory `path`, on the CPU, giving the features of `exit_stage`.

    Without one it gives the backbone's. Torch's random generator is left as it was. Raises `CheckpointError`,
    which names the file, for one that is missing, altered or of another version, and `ConfigError` for a
    stage without an exit.
    """
    directory = Path(path)
    description = _description(directory / DESCRIPTION)
    weights = _read(directory / WEIGHTS)
    if hashlib.sha256(weights).hexdigest() != description["sha256"]:
        raise CheckpointError(f"{directory / WEIGHTS}: damaged, its SHA-256 is not that of {DESCRIPTION}")
    try:
        encoder = _build(
            TrainConfig.from_flat(description["config"]),
            image_size=description["image_size"],
            num_classes=len(description["class_names"]),
        )
        load_network(encoder, safetensors.torch.load(weights), source=str(directory / WEIGHTS))
        mean, std = tuple(description["mean"]), tuple(description["std"])
    except (KeyError, SafetensorError) as error:
        raise CheckpointError(f"{directory}: not an encoder of this version: {_first_line(error)}") from error
    return PixelEncoder(encoder, mean=mean, std=std, exit_stage=exit_stage)


def encoder_of_checkpoint(
    checkpoint: Path | TrainingState, *, config: TrainConfig, dataset: ImageDataset
) -> SelfConEncoder:
    """Return the trained network of a checkpoint of `config`, in the run's precision, in evaluation mode.

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
    """The network with some weights, which are about to be replaced."""
    of_heads = num_classes_of_heads(config, num_classes=num_classes)
    with torch.random.fork_rng(devices=[]):
        return build_encoder(config.model, image_size=image_size, num_classes=of_heads)


def _exit_index(exit_stages: tuple[int, ...], exit_stage: int | None) -> int:
    if exit_stage is None:
        return -1  # the backbone is the last
    if exit_stage not in exit_stages:
        valid = ", ".join(map(str, exit_stages))
        expected = f"one of the stages with an exit ({valid})" if valid else "none, as there is no exit"
        raise ConfigError("exit_stage", expected, repr(exit_stage))
    return exit_stages.index(exit_stage)


def _pixels(images_NCHW: Tensor) -> Tensor:
    if images_NCHW.ndim != 4 or images_NCHW.shape[1] != 3:
        raise ConfigError("images", "shape (N, 3, H, W)", str(tuple(images_NCHW.shape)))
    if images_NCHW.dtype == torch.uint8:
        return images_NCHW.float() / 255
    if images_NCHW.dtype != torch.float32:
        raise ConfigError(
            "images", "float32 in [0, 1] or uint8", str(images_NCHW.dtype).removeprefix("torch.")
        )
    return images_NCHW


def _portable(value: Tensor) -> Tensor:
    value = value.detach().cpu().contiguous()
    return value.float() if value.is_floating_point() else value


def _description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(_read(path))
    except ValueError as error:
        raise CheckpointError(f"{path}: damaged, not valid JSON ({error})") from error
    version = content.get("version") if isinstance(content, dict) else None
    if version != FORMAT_VERSION or "sha256" not in content:
        raise CheckpointError(f"{path}: expected format version {FORMAT_VERSION}, got {version!r}")
    return dict(content)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise CheckpointError(f"{path}: missing") from error


def _first_line(error: BaseException) -> str:
    return str(error).splitlines()[0]
