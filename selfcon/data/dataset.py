"""A data set as it is trained on and judged with: three parts with labels, and what identifies it."""

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from selfcon.config import DataConfig
from selfcon.data.cifar import read_cifar10, read_cifar100
from selfcon.data.digits import read_digits
from selfcon.data.image_folders import read_folder, read_imagenet, read_imagenet100
from selfcon.data.source import Source
from selfcon.data.split import Split
from selfcon.data.splits import divide
from selfcon.data.statistics import Channels
from selfcon.data.tinyimagenet import read_tinyimagenet

__all__ = ["READERS", "ImageDataset", "Split", "data_digest", "load_dataset"]

READERS: Mapping[str, Callable[[Path], Source]] = {
    "digits": read_digits,
    "cifar10": read_cifar10,
    "cifar100": read_cifar100,
    "tinyimagenet": read_tinyimagenet,
    "imagenet": read_imagenet,
    "imagenet100": read_imagenet100,
    "folder": read_folder,
}


@dataclass(frozen=True, kw_only=True)
class ImageDataset:
    """A data set as it is trained on and judged with.

    `mean` and `std` are what pixels in [0, 1] are normalised with, by channel: those of the training part, or
    ImageNet's where the images stay on disk. `digest` is the sha256 of what the images are before any
    resizing, their classes, and what decides the split; two results compare only where it is equal.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    class_names: tuple[str, ...]
    mean: Channels
    std: Channels
    image_size: int
    digest: str

    @property
    def num_images(self) -> dict[str, int]:
        """How many images each part has, by `train`, `validation` and `test`."""
        return {name: len(getattr(self, name)) for name in ("train", "validation", "test")}


def load_dataset(data_config: DataConfig) -> ImageDataset:
    """Return the data set that the configuration names, its images resized where `image_size` says so.

    The test part is the data set's own, else fixed; so is the validation part, else it is
    `validation_fraction` of the training part, drawn by `split_seed`. What is split off has each class in its
    share.

    Raises `ConfigError` for data that are missing, damaged, or not in the layout they must have.
    """
    source = READERS[data_config.dataset](Path(data_config.root))
    members, decided = divide(source, data_config)
    image_size = data_config.image_size or source.image_size
    splits = source.splits(members, image_size=image_size)
    mean, std = splits["train"].channel_statistics()
    return ImageDataset(
        name=data_config.dataset,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        class_names=source.class_names,
        mean=mean,
        std=std,
        image_size=image_size,
        digest=data_digest(source.identities(), split=decided),
    )


def data_digest(identities: Iterable[str], *, split: Mapping[str, float]) -> str:
    """Return the sha256, in hexadecimal, of the images' lines and the parameters of the split.

    The lines are sorted, so that only what is there counts, not its order.
    """
    text = "\n".join([json.dumps(split, sort_keys=True), *sorted(identities)])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
