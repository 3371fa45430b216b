import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torchvision.datasets import ImageFolder

from selfcon.data.image_folders import imagenet100_classes, read_folder, read_imagenet, read_imagenet100
from selfcon.data.source import FileSource
from selfcon.errors import ConfigError
from tests.selfcon import tiny_datasets
from tests.selfcon.data.locked_files import locked

TWO_PARTS = {"train": 3, "val": 2}


def written(root: Path, **options: Any) -> Path:
    tiny_datasets.write_image_folder(root, **options)
    return root


def listed(source: FileSource) -> list[tuple[str, int]]:
    return list(zip(source.files.names, source.labels_N.tolist(), strict=True))


@pytest.mark.parametrize("parts", [{"train": 3}, {"train": 3, "test": 2}, {"train": 2, "val": 3, "test": 1}])
def test_images_and_classes_equal_torchvision(tmp_path: Path, parts: dict[str, int]) -> None:
    source = read_folder(written(tmp_path, parts=parts, classes=("b", "B", "a 1")))
    expected = []
    for part in parts:
        folder = ImageFolder(str(tmp_path / part))
        assert tuple(folder.classes) == source.class_names == ("B", "a 1", "b")
        expected += [(str(Path(path).relative_to(tmp_path)), label) for path, label in folder.samples]
    assert sorted(listed(source)) == sorted(expected)
    assert source.files.sizes == [(tmp_path / name).stat().st_size for name in source.files.names]


def test_splits_are_those_of_the_folders(tmp_path: Path) -> None:
    source = read_folder(written(tmp_path, parts={"test": 1, "val": 2, "train": 3}))
    assert dict(source.given) == {"train": range(9), "validation": range(9, 15), "test": range(15, 18)}
    assert [name.split("/")[0] for name in source.files.names] == ["train"] * 9 + ["val"] * 6 + ["test"] * 3
    assert dict(read_imagenet(tmp_path).given) == {"train": range(9), "test": range(9, 15)}


def test_hidden_files_and_files_next_to_class_folders_are_ignored(tmp_path: Path) -> None:
    plain = listed(read_folder(written(tmp_path)))
    for name in (".DS_Store", "train/.hidden.png", "train/ant/.nothing", "train/list.txt", "README.md"):
        (tmp_path / name).write_text("text")
    (tmp_path / "train" / "ant" / ".#lock").symlink_to("nowhere")
    (tmp_path / "train" / ".ipynb_checkpoints").mkdir()
    assert listed(read_folder(tmp_path)) == plain


def test_links_inside_the_root_are_followed(tmp_path: Path) -> None:
    written(tmp_path / "set")
    (tmp_path / "set" / "pool").mkdir()
    (tmp_path / "set" / "train" / "cow").rename(tmp_path / "set" / "pool" / "cow")
    (tmp_path / "set" / "train" / "cow").symlink_to("../pool/cow")
    (tmp_path / "set" / "train" / "ant" / "zzz.png").symlink_to("000.png")
    (tmp_path / "link").symlink_to("set")
    source = read_folder(tmp_path / "link")
    assert len(source.files) == 37
    assert source.files.names[12] == "train/ant/zzz.png"
    assert source.files.sizes[12] == source.files.sizes[0]


@pytest.mark.parametrize(
    ("sizes", "image_size", "common_size"),
    [
        (((20, 20),), 20, 20),
        (((300, 300),), 300, 300),
        (((20, 20), (21, 21)), 224, None),
        (((20, 30),), 224, None),
    ],
)
def test_image_size_is_that_of_the_images_if_all_are_equal_squares(
    tmp_path: Path, sizes: Any, image_size: int, common_size: int | None
) -> None:
    source = read_folder(written(tmp_path, sizes=sizes, parts=TWO_PARTS))
    assert (source.image_size, source.common_size) == (image_size, common_size)


def test_imagenet_has_224_pixels_and_stays_on_disk(tmp_path: Path) -> None:
    source = read_imagenet(written(tmp_path, parts=TWO_PARTS, suffixes=(".JPEG",)))
    assert (source.image_size, source.common_size, source.small) == (224, None, False)


def test_imagenet100_is_a_hundred_classes_of_imagenet() -> None:
    classes = imagenet100_classes()
    assert classes == sorted(set(classes))
    assert len(classes) == 100
    assert all(name.startswith("n") and len(name) == 9 and name[1:].isdecimal() for name in classes)
    assert (classes[0], classes[-1]) == ("n01558993", "n13040303")


def test_imagenet100_selects_its_classes_from_imagenet(tmp_path: Path) -> None:
    classes = [*imagenet100_classes(), "n00000000", "n99999999"]
    options = {"parts": {"train": 2, "val": 1}, "sizes": ((4, 4),), "suffixes": (".JPEG",)}
    written(tmp_path, classes=classes, **options)
    source = read_imagenet100(tmp_path)
    assert list(source.class_names) == imagenet100_classes()
    assert torch.equal(source.labels_N, torch.cat([torch.arange(200) // 2, torch.arange(100)]))
    shutil.rmtree(tmp_path / "val" / "n01729322")
    with pytest.raises(ConfigError) as refused:
        read_imagenet100(tmp_path)
    expected = f"the 100 class folders in {tmp_path / 'val'}, got no n01729322"
    assert str(refused.value) == f"data.root: expected {expected}"


def empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def keep_one_class(folder: Path) -> None:
    shutil.rmtree(folder / "ant")
    shutil.rmtree(folder / "cow")


def become_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.touch()


def become_link(folder: Path, target: str) -> None:
    shutil.rmtree(folder)
    folder.symlink_to(target)


# Changes of a folder of 3 classes, and their error line; {} is the folder.
BAD_FOLDERS: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty class": (
        lambda root: empty(root / "train/bee"),
        "images (.jpg, .jpeg, .png) of each class, got none in {}/train/bee",
    ),
    "empty class of val": (
        lambda root: empty(root / "val/cow"),
        "images (.jpg, .jpeg, .png) of each class, got none in {}/val/cow",
    ),
    "one class": (
        lambda root: keep_one_class(root / "train"),
        "a folder for each of two classes or more in {}/train, got only bee",
    ),
    "no class": (
        lambda root: empty(root / "train"),
        "a folder for each of two classes or more in {}/train, got none",
    ),
    "truncated": (
        lambda root: (root / "train/ant/001.jpg").write_bytes(
            (root / "train/ant/001.jpg").read_bytes()[:-100]
        ),
        "images that can be read, got {}/train/ant/001.jpg: image file is truncated (",
    ),
    "text": (
        lambda root: (root / "val/cow/000.png").write_text("text"),
        "images that can be read, got {}/val/cow/000.png: not an image of format JPEG or PNG",
    ),
    "pixel bomb": (
        lambda root: tiny_datasets.write_png_header(root / "train/ant/000.png", height=10_000, width=9_000),
        "images that can be read, got {}/train/ant/000.png: more than the 89478485 pixels that Pillow",
    ),
    "folder with an image's name": (
        lambda root: (root / "train/cow/a.png").mkdir(),
        "only images (.jpg, .jpeg, .png) in {}/train/cow, got the folder a.png",
    ),
    "another file": (
        lambda root: (root / "train/cow/Thumbs.db").touch(),
        "only images (.jpg, .jpeg, .png) in {}/train/cow, got the file Thumbs.db",
    ),
    "file for val": (
        lambda root: become_file(root / "val"),
        "a folder with val/<class>/ and images in it, got {} with train, val",
    ),
    "image link out": (
        lambda root: (root / "train/ant/a.png").symlink_to("/etc/hostname"),
        "links that stay in {}, got {}/train/ant/a.png, a link to /etc/hostname",
    ),
    "class link out": (
        lambda root: (root / "train/dog").symlink_to("/etc"),
        "links that stay in {}, got {}/train/dog, a link to /etc",
    ),
    "part link out": (
        lambda root: become_link(root / "val", "/etc"),
        "links that stay in {}, got {}/val, a link to /etc",
    ),
    "part link to nothing": (
        lambda root: become_link(root / "val", "/nonexistent"),
        "links to existing files or folders, got {}/val: a broken link",
    ),
    "link to nothing": (
        lambda root: (root / "train/ant/a.png").symlink_to("b.png"),
        "links to existing files or folders, got {}/train/ant/a.png: a broken link",
    ),
    "link to itself": (
        lambda root: (root / "train/ant/a.png").symlink_to("a.png"),
        "links to existing files or folders, got {}/train/ant/a.png: a broken link",
    ),
    "class only in train": (
        lambda root: shutil.rmtree(root / "val/bee"),
        "the same classes in {}/train and in val, got bee only in train",
    ),
    "class only in val": (
        lambda root: shutil.rmtree(root / "train/bee"),
        "the same classes in {}/train and in val, got bee only in val",
    ),
    "no train": (
        lambda root: shutil.rmtree(root / "train"),
        "a folder with train/<class>/ and images in it, got {} with val",
    ),
    "nothing": (
        empty,
        "a folder with train/<class>/ and images in it, got {} with nothing",
    ),
    "no folder": (
        shutil.rmtree,
        "folders that can be read, got {}: no such file or directory",
    ),
}


@pytest.mark.parametrize(("spoil", "line"), BAD_FOLDERS.values(), ids=BAD_FOLDERS)
def test_invalid_folder_gives_a_one_line_error_with_class_or_file(
    tmp_path: Path, spoil: Callable[[Path], object], line: str
) -> None:
    root = written(tmp_path / "set", parts=TWO_PARTS)
    spoil(root)
    with pytest.raises(ConfigError) as refused:
        read_folder(root)
    assert str(refused.value).startswith(f"data.root: expected {line.replace('{}', str(root))}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("read", [read_folder, read_imagenet, read_imagenet100])
@pytest.mark.parametrize("below", ["train", "..", "train/ant"])
def test_nearby_correct_root_is_suggested(tmp_path: Path, read: Any, below: str) -> None:
    root = written(tmp_path / "data" / "set", parts=TWO_PARTS)
    nearby = {"train": f" (did you mean {root}?)", "..": f" (did you mean {root}?)", "train/ant": ""}[below]
    with pytest.raises(ConfigError) as refused:
        read((root / below).resolve())
    assert "expected a folder with train/<class>/ and images in it, got " in str(refused.value)
    assert str(refused.value).endswith(nearby)


def test_imagenet_checks_one_image_of_each_class(tmp_path: Path) -> None:
    root = written(tmp_path, parts=TWO_PARTS)
    (root / "val" / "bee" / "001.jpg").write_text("text")
    assert len(read_imagenet(root).files) == 15
    (root / "val" / "bee" / "000.png").write_text("text")
    with pytest.raises(ConfigError, match=r"got .*/val/bee/000\.png: not an image"):
        read_imagenet(root)


def test_imagenet_needs_val(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"a folder with val/<class>/ and images in it, got .* with train$"):
        read_imagenet(written(tmp_path))


def test_unreadable_image_is_rejected(tmp_path: Path) -> None:
    root = written(tmp_path, parts=TWO_PARTS)
    (root / "train/ant/aaa.png").touch()
    (root / "train/ant/aaa.png").chmod(0)  # root can read it, and gets an empty file
    with pytest.raises(ConfigError, match=r"/train/ant/aaa\.png: (permission denied|not an image)"):
        read_folder(root)


@pytest.mark.parametrize("read", [read_folder, read_imagenet])
@pytest.mark.parametrize("mode", [0, 0o111, 0o444])
@pytest.mark.parametrize("below", [".", "train", "val/bee"])
def test_unreadable_folders_are_rejected(open_path: Path, read: Any, mode: int, below: str) -> None:
    root = written(open_path / "set", parts=TWO_PARTS)
    with locked(root / below, mode=mode), pytest.raises(ConfigError) as refused:
        read(root)
    # Some file systems list the types of entries: then the error is that of a path in the folder.
    expected = rf"data\.root: expected folders that can be read, got {root / below}(/\w+)?: permission denied"
    assert re.fullmatch(expected, str(refused.value))


def test_unreadable_folder_next_to_a_wrong_root_is_not_suggested(open_path: Path) -> None:
    (open_path / "set" / "locked").mkdir(parents=True)
    with locked(open_path / "set" / "locked"), pytest.raises(ConfigError) as refused:
        read_folder(open_path / "set")
    assert str(refused.value).endswith(f"and images in it, got {open_path / 'set'} with locked")


def test_reading_does_not_change_the_warning_filters(tmp_path: Path) -> None:
    before = list(warnings.filters)
    read_folder(written(tmp_path))
    assert list(warnings.filters) == before


def test_names_in_capitals_are_kept(tmp_path: Path) -> None:
    root = written(tmp_path, parts=TWO_PARTS, suffixes=(".PNG", ".Jpg", ".JPEG"))
    assert {Path(name).suffix for name in read_folder(root).files.names} == {".PNG", ".Jpg", ".JPEG"}
