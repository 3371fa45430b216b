"""A data set in memory: three parts of uint8 images with labels, and what identifies it.

Shape letters: N images, C = 3 channels, H height, W width.
"""

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from selfcon.config import DataConfig
from selfcon.data.digits import CLASS_NAMES, TEST_FRACTION, TEST_SEED, read_digits
from selfcon.data.splits import stratified
from selfcon.errors import ConfigError


@dataclass(frozen=True)
class Split:
    """One part of a data set: `images_NCHW` uint8 with three channels, `labels_N` int64."""

    images_NCHW: Tensor
    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)


@dataclass(frozen=True, kw_only=True)
class ImageDataset:
    """A data set as it is trained on and judged with.

    `mean` and `std` are those of the training part's pixels in [0, 1], by channel. `digest` is the sha256 of
    the images as they were before any resizing, their classes, and what decides the split; two results
    compare only where it is equal.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_size: int
    digest: str


def load_dataset(data_config: DataConfig) -> ImageDataset:
    """Return the data set that the configuration names, its images resized where `image_size` says so.

    The test part is fixed; the validation part is `validation_fraction` of the rest, drawn by `split_seed`.
    Both have each class in its share.

    Raises `ConfigError` for a data set that is not built yet.
    """
    if data_config.dataset != "digits":
        raise ConfigError("data.dataset", "digits (the only one built yet)", data_config.dataset)
    originals_NCHW, labels_N = read_digits()
    rest, held_out = stratified(labels_N, fraction=TEST_FRACTION, seed=TEST_SEED)
    stay, off = stratified(
        labels_N[rest], fraction=data_config.validation_fraction, seed=data_config.split_seed
    )
    image_size = data_config.image_size or originals_NCHW.shape[-1]
    images_NCHW = resize(originals_NCHW, image_size)
    train, validation, test = (
        Split(images_NCHW[part], labels_N[part]) for part in (rest[stay], rest[off], held_out)
    )
    mean, std = channel_statistics(train.images_NCHW)
    split = {
        "test_fraction": TEST_FRACTION,
        "test_seed": TEST_SEED,
        "validation_fraction": data_config.validation_fraction,
        "split_seed": data_config.split_seed,
    }
    return ImageDataset(
        name=data_config.dataset,
        train=train,
        validation=validation,
        test=test,
        class_names=CLASS_NAMES,
        mean=mean,
        std=std,
        image_size=image_size,
        digest=data_digest(originals_NCHW, labels_N, split=split),
    )


def resize(images_NCHW: Tensor, image_size: int) -> Tensor:
    """Return uint8 images as squares of `image_size` pixels: bilinear, antialiased where they shrink."""
    if images_NCHW.shape[2:] == (image_size, image_size):
        return images_NCHW
    resized = functional.interpolate(
        images_NCHW.to(torch.float32), size=(image_size, image_size), mode="bilinear", antialias=True
    )
    return resized.round().clamp(0, 255).to(torch.uint8)


def channel_statistics(images_NCHW: Tensor) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
    """Return mean and standard deviation of uint8 images' pixels in [0, 1], by channel.

    Computed from whole numbers until the last division, so they are the same bits on every machine. A channel
    that never varies has a standard deviation of 1: there is nothing to scale.
    """
    statistics = [_mean_and_std(images_NCHW[:, channel]) for channel in range(3)]
    (red, red_std), (green, green_std), (blue, blue_std) = statistics
    return (red, green, blue), (red_std, green_std, blue_std)


def data_digest(images_NCHW: Tensor, labels_N: Tensor, *, split: Mapping[str, float]) -> str:
    """Return the sha256, in hexadecimal, of images held in memory, their classes, and the split's parameters.

    Each image is a line of its class and the sha256 of its bytes; the lines are sorted, so that only what is
    there counts, not its order.
    """
    samples = zip(labels_N.tolist(), images_NCHW.contiguous().numpy(), strict=True)
    lines = sorted(f"{label} {hashlib.sha256(image.tobytes()).hexdigest()}" for label, image in samples)
    text = "\n".join([json.dumps(split, sort_keys=True), *lines])
    return hashlib.sha256(text.encode()).hexdigest()


def _mean_and_std(channel_NHW: Tensor) -> tuple[float, float]:
    counts = torch.bincount(channel_NHW.flatten(), minlength=256).tolist()
    num_pixels = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    variance = (num_pixels * squares - total * total) / (255 * num_pixels) ** 2
    return total / (255 * num_pixels), math.sqrt(variance) or 1.0
