"""Tiny ImageNet: 200 classes of 500 training and 50 other images, 64 x 64 pixels, in the published layout.

Source: Stanford's CS231N, http://cs231n.stanford.edu/tiny-imagenet-200.zip. The labels of its test images are
not public; as in ImageNet, its `val` is the test split.
"""

from collections import Counter
from pathlib import Path

import torch

from selfcon.data.files import KEY, ImageFiles, class_folders, read_content
from selfcon.data.source import FileSource
from selfcon.errors import ConfigError

FOLDER = "tiny-imagenet-200"
IMAGE_SIZE = 64
_WHERE = f"in {FOLDER}/ under data.root, as unpacked from http://cs231n.stanford.edu/{FOLDER}.zip"


def read_tinyimagenet(root: Path) -> FileSource:
    """Return the images under `root`/tiny-imagenet-200; their classes are named by words.txt.

    Raises `ConfigError` with the name of a missing or unexpected file.
    """
    folder = root / FOLDER
    wnids = sorted(fields[0] for fields in _table(folder / "wnids.txt", root=root))
    _check_once(wnids, folder / "wnids.txt")
    words = {wnid: name for wnid, name, *_ in _table(folder / "words.txt", root=root, num_fields=2)}
    files, labels = ImageFiles(root), list[int]()
    _check_equal(wnids, class_folders(folder / "train", root=root), f"{folder / 'train'} and wnids.txt")
    for label, wnid in enumerate(wnids):
        labels += [label] * len(files.add_folder(folder / "train" / wnid / "images"))
    train = range(len(files))
    labels += _validation_labels(folder / "val", files, wnids)
    _check_equal(wnids, [wnid for wnid in wnids if wnid in words], "wnids.txt and words.txt")
    return FileSource(
        labels_N=torch.tensor(labels),
        class_names=tuple(words[wnid] for wnid in wnids),
        given={"train": train, "test": range(len(train), len(files))},
        image_size=IMAGE_SIZE,
        files=files,
        common_size=IMAGE_SIZE,
        small=True,
    )


def _validation_labels(folder: Path, files: ImageFiles, wnids: list[str]) -> list[int]:
    """Add the images of `val` to `files` and return the numbers of their classes."""
    table = folder / "val_annotations.txt"
    lines = _table(table, root=files.root, num_fields=2)
    _check_once([name for name, *_ in lines], table)
    wnid_of = {name: wnid for name, wnid, *_ in lines}
    added = files.add_folder(folder / "images")
    names = [files.path(number).name for number in added]
    _check_equal(sorted(wnid_of), names, f"{folder / 'images'} and {table.name}")
    _check_equal(wnids, sorted({*wnid_of.values()}), f"wnids.txt and {table}")
    return [wnids.index(wnid_of[name]) for name in names]


def _check_equal(wanted: list[str], found: list[str], where: str) -> None:
    for name in sorted({*wanted} ^ {*found}):
        raise ConfigError(KEY, f"the same names in {where}", f"{name} in one of them only")


def _check_once(names: list[str], path: Path) -> None:
    for name, count in Counter(names).items():
        if not count == 1:
            raise ConfigError(KEY, f"each name once in {path}", f"{name} {count} times")


def _table(path: Path, *, root: Path, num_fields: int = 1) -> list[list[str]]:
    """The lines of a text file, split at tabs."""
    content = read_content(path, root=root, where=_WHERE)
    try:
        lines = [line.split("\t") for line in content.decode().splitlines() if line]
    except UnicodeDecodeError as error:
        raise ConfigError(KEY, "text in UTF-8", f"{path}: {error}") from error
    for fields in lines:
        if len(fields) < num_fields:
            raise ConfigError(KEY, f"{num_fields} fields in each line of {path}", "\t".join(fields))
    return lines
