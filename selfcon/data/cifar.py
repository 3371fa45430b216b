"""CIFAR-10 and CIFAR-100: 60,000 images of 32 x 32 pixels, in the "Python version" of their files.

Source: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. The names of the files and
their MD5 sums are those of torchvision.

Shape letters: N images, C = 3 channels, H height, W width.
"""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from selfcon.data.files import KEY, read_content
from selfcon.data.plain_pickle import PickledArray, load_plain_pickle
from selfcon.data.source import ArraySource
from selfcon.errors import ConfigError

SHAPE = (3, 32, 32)
# With this number of images the data set is the published one, or damaged.
PUBLISHED_COUNT = 60_000
PUBLISHED = "CIFAR's files as published"


def read_cifar10(root: Path) -> ArraySource:
    """Return CIFAR-10 from `root`/cifar-10-batches-py. Raises `ConfigError` with the name of the file."""
    from torchvision.datasets import CIFAR10

    return _read(root, CIFAR10, labels="labels")


def read_cifar100(root: Path) -> ArraySource:
    """Return CIFAR-100 with its fine classes from `root`/cifar-100-python. Raises `ConfigError` as
    `read_cifar10`."""
    from torchvision.datasets import CIFAR100

    return _read(root, CIFAR100, labels="fine_labels")


def _read(root: Path, layout: Any, *, labels: str) -> ArraySource:
    """Read the files of torchvision's class `layout`."""
    folder, meta = root / layout.base_folder, layout.meta["filename"]
    train, test = ([name for name, _ in names] for names in (layout.train_list, layout.test_list))
    where = f"in {layout.base_folder}/ under data.root, as unpacked from {layout.url}"
    contents = {name: read_content(folder / name, root=root, where=where) for name in (*train, *test, meta)}
    tables = {name: _table(folder / name, content) for name, content in contents.items()}
    class_names = _class_names(folder / meta, tables[meta], layout.meta["key"])
    batches = [
        _images_and_labels(folder / name, tables[name], labels, num_classes=len(class_names))
        for name in (*train, *test)
    ]
    counts = [len(numbers) for _, numbers in batches]
    if sum(counts) == PUBLISHED_COUNT:
        sums = [*layout.train_list, *layout.test_list, (meta, layout.meta["md5"])]
        _check_sums(folder, contents, dict(sums))
    num_train = sum(counts[: len(train)])
    return ArraySource(
        labels_N=torch.tensor([label for _, numbers in batches for label in numbers]),
        class_names=class_names,
        given={"train": range(num_train), "test": range(num_train, sum(counts))},
        image_size=SHAPE[-1],
        images_NCHW=torch.from_numpy(np.concatenate([images_NCHW for images_NCHW, _ in batches])),
    )


def _table(path: Path, content: bytes) -> Mapping[str, Any]:
    """The dictionary in a file."""
    try:
        table = load_plain_pickle(content)
        return {key.decode() if isinstance(key, bytes) else str(key): value for key, value in table.items()}
    except Exception as error:  # a damaged pickle may raise any exception
        raise ConfigError(KEY, PUBLISHED, f"{path}: {error}") from error


def _class_names(path: Path, table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    names = table.get(key)
    if not isinstance(names, list) or not all(isinstance(name, bytes | str) for name in names):
        raise ConfigError(KEY, PUBLISHED, f"{path}: no list of names as {key}")
    try:
        return tuple(name.decode() if isinstance(name, bytes) else name for name in names)
    except UnicodeDecodeError as error:
        raise ConfigError(KEY, PUBLISHED, f"{path}: {error}") from error


def _images_and_labels(
    path: Path, table: Mapping[str, Any], key: str, *, num_classes: int
) -> tuple[NDArray[np.uint8], list[int]]:
    """The images (N, C, H, W) and the classes of one file."""
    data, labels = table.get("data"), table.get(key)
    try:
        if not isinstance(data, PickledArray):
            raise ValueError("no array of images as data")
        images_NCHW = data.to_bytes_array().reshape(-1, *SHAPE)
        if not isinstance(labels, list) or not len(labels) == len(images_NCHW) > 0:
            raise ValueError(f"not one of {key} for each of {len(images_NCHW)} images")
        if not all(type(label) is int and 0 <= label < num_classes for label in labels):
            raise ValueError(f"{key} other than 0 to {num_classes - 1}")
    except (TypeError, ValueError) as error:
        raise ConfigError(KEY, PUBLISHED, f"{path}: {error}") from error
    return images_NCHW, labels


def _check_sums(folder: Path, contents: Mapping[str, bytes], sums: Mapping[str, str]) -> None:
    for name, content in contents.items():
        if hashlib.md5(content, usedforsecurity=False).hexdigest() != sums[name]:
            raise ConfigError(KEY, PUBLISHED, f"{folder / name}: wrong MD5 sum")
