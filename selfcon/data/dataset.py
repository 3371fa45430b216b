"""Data sets with their training, validation and test splits."""

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
    """Data set with its splits.

    `mean` and `std` normalise pixels in [0, 1] by channel: those of the training split, or ImageNet's if
    images stay on disk. `digest` is the SHA-256 of the original images, their classes and the parameters of
    the split; results are comparable only if it is equal.
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
        """Number of images of the splits `train`, `validation` and `test`."""
        return {name: len(getattr(self, name)) for name in ("train", "validation", "test")}


def load_dataset(data_config: DataConfig) -> ImageDataset:
    """Load a data set with its training, validation and test splits.

    Predefined splits are kept. A missing test split is taken from the training split with a fixed seed; a
    missing validation split is `validation_fraction` of the training split, drawn with `split_seed`. Both are
    stratified by class.

    Args:
        data_config: The `data` section of a TrainConfig.

    Returns:
        The data set, with images of `image_size` pixels, or of their default size if that is None.

    Raises:
        ConfigError: Files are missing, damaged, or not in the required layout.

    Example:
        >>> from selfcon import TrainConfig
        >>> dataset = load_dataset(TrainConfig.from_flat({"data.dataset": "digits"}).data)
        >>> dataset.num_images
        {'train': 1295, 'validation': 143, 'test': 359}
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
    """Return the hexadecimal SHA-256 of the lines of images and the parameters of the split.

    The lines are sorted, so that the order of images does not matter.
    """
    text = "\n".join([json.dumps(split, sort_keys=True), *sorted(identities)])
    return hashlib.sha256(text.encode(errors="surrogateescape")).hexdigest()
