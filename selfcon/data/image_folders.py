"""Data sets with a folder for each class: any folder, ImageNet, and ImageNet-100.

`train`, `val` and `test` under the root have a folder of images for each class. Classes are numbered in the
sorted order of their folders.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import resources
from pathlib import Path

import torch
from torch import Tensor

from selfcon.data.decode import inspect_image
from selfcon.data.files import KEY, ImageFiles, class_folders, entries, folders_in
from selfcon.data.prefetch import in_threads
from selfcon.data.source import FileSource, Part
from selfcon.errors import ConfigError

LARGE_SIZE = 224

_FOLDER_PARTS: Mapping[Part, str] = {"train": "train", "validation": "val", "test": "test"}
# The labels of ImageNet's test images are not public; results are reported on val.
_IMAGENET_PARTS: Mapping[Part, str] = {"train": "train", "test": "val"}
_HEADERS_AT_ONCE = 4096


def read_folder(root: Path) -> FileSource:
    """Return the images of any folder: `train`, and `val` and `test` if they exist.

    Reads the header of every image. Raises `ConfigError` with the class or file for any invalid content.
    """
    present = {"train"}.union(entry.name for entry in entries(root, root=root))
    parts = {part: name for part, name in _FOLDER_PARTS.items() if name in present}
    source = scan_parts(root, parts)
    sizes = _inspected(source.files, torch.arange(len(source.files)))
    side, _ = min(sizes)
    common = side if sizes == {(side, side)} else None
    return replace(source, common_size=common, image_size=common or LARGE_SIZE)


def read_imagenet(root: Path) -> FileSource:
    """Return ImageNet: `train`, and `val` as the test split.

    Reads the header of one image of each class in each split, because there are a million images. Raises
    `ConfigError` for any invalid content.
    """
    return _checked_by_class(scan_parts(root, _IMAGENET_PARTS))


def read_imagenet100(root: Path) -> FileSource:
    """Return the 100 classes of ImageNet that are called ImageNet-100; ignores other folders.

    They are those of Tian, Krishnan and Isola, Contrastive Multiview Coding, ECCV 2020 (imagenet100.txt of
    github.com/HobbitLong/CMC, commit bc687a2), sorted. Raises `ConfigError` as `read_imagenet` does.
    """
    return _checked_by_class(scan_parts(root, _IMAGENET_PARTS, classes=imagenet100_classes()))


def imagenet100_classes() -> list[str]:
    """Return the names of ImageNet-100's class folders, sorted."""
    return resources.files("selfcon.data").joinpath("imagenet100.txt").read_text(encoding="ascii").split()


def scan_parts(root: Path, parts: Mapping[Part, str], *, classes: Sequence[str] | None = None) -> FileSource:
    """Return the images in the folders `parts` under `root`, of all classes or the given ones.

    Raises `ConfigError` for a missing folder, a class without images, a file that is not an image, a link out
    of `root`, and parts with different classes.
    """
    files, labels, given = ImageFiles(root), list[int](), dict[Part, range]()
    found = {name: _classes_in(root, name, classes) for name in parts.values()}
    names = found["train"]
    for part, folder in parts.items():
        _check_same_classes(root, names, folder, found[folder])
        first = len(files)
        for label, name in enumerate(names):
            labels += [label] * len(files.add_folder(root / folder / name))
        given[part] = range(first, len(files))
    return FileSource(
        labels_N=torch.tensor(labels),
        class_names=tuple(names),
        given=given,
        image_size=LARGE_SIZE,
        files=files,
    )


def _classes_in(root: Path, name: str, classes: Sequence[str] | None) -> list[str]:
    folder, around = root / name, folders_in(root, root=root)
    if name not in around:
        holds = ", ".join(sorted(entry.name for entry in entries(root, root=root))[:3]) or "nothing"
        expected = f"a folder with {name}/<class>/ and images in it"
        candidates = (root.absolute().parent, *(root / other for other in around))
        nearby = next((str(path) for path in candidates if _is_folder(path / name)), None)
        raise ConfigError(KEY, expected, f"{root} with {holds}", nearby)
    present = class_folders(folder, root=root)
    for wanted in classes or ():
        if wanted not in present:
            raise ConfigError(KEY, f"the {len(classes or ())} class folders in {folder}", f"no {wanted}")
    return list(classes or present)


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:  # the message must not suggest a folder that cannot be used
        return False


def _check_same_classes(root: Path, names: list[str], folder: str, others: list[str]) -> None:
    for name in sorted({*names} ^ {*others}):
        got = f"{name} only in {folder if name in others else 'train'}"
        raise ConfigError(KEY, f"the same classes in {root / 'train'} and in {folder}", got)


def _checked_by_class(source: FileSource) -> FileSource:
    """Check the first image of each class in each part: those whose class differs from the previous image."""
    changes_N = source.labels_N.diff(prepend=source.labels_N[-1:]) != 0
    _inspected(source.files, changes_N.nonzero()[:, 0])
    return source


def _inspected(files: ImageFiles, numbers_N: Tensor) -> set[tuple[int, int]]:
    """The set of sizes (height, width) in the headers of these images."""
    paths = ([files.path(number) for number in some.tolist()] for some in numbers_N.split(_HEADERS_AT_ONCE))
    return {size for sizes in in_threads(inspect_image, paths) for size in sizes}
