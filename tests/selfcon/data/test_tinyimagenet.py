import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selfcon.data.tinyimagenet import read_tinyimagenet
from selfcon.errors import ConfigError
from tests.selfcon import tiny_datasets
from tests.selfcon.data.locked_files import locked


def written(root: Path) -> Path:
    folder: Path = tiny_datasets.write_tinyimagenet(root) / "tiny-imagenet-200"
    return folder


def lines_of(path: Path) -> list[str]:
    return path.read_text().splitlines()


def test_classes_are_the_sorted_wnids_with_their_words(tmp_path: Path) -> None:
    folder = written(tmp_path)
    source = read_tinyimagenet(tmp_path)
    assert lines_of(folder / "wnids.txt") == ["n01443762", "n01443761", "n01443760"]
    assert source.class_names == ("thing 2, sort of", "thing 1, sort of", "thing 0, sort of")
    assert (source.image_size, source.common_size, source.small) == (64, 64, True)


def test_training_images_have_the_class_of_their_folder(tmp_path: Path) -> None:
    folder, source = written(tmp_path), read_tinyimagenet(tmp_path)
    wnids = sorted(lines_of(folder / "wnids.txt"))
    assert source.given["train"] == range(36)
    for number in source.given["train"]:
        assert source.files.names[number].split("/")[2] == wnids[source.labels_N[number]]


def test_val_is_the_test_split_with_the_annotated_classes(tmp_path: Path) -> None:
    folder, source = written(tmp_path), read_tinyimagenet(tmp_path)
    wnids = sorted(lines_of(folder / "wnids.txt"))
    wnid_of = dict(line.split("\t")[:2] for line in lines_of(folder / "val" / "val_annotations.txt"))
    assert set(source.given) == {"train", "test"}
    assert source.given["test"] == range(36, 48)
    for number in source.given["test"]:
        assert wnids[source.labels_N[number]] == wnid_of[source.files.path(number).name]


def drop_line(path: Path) -> None:
    path.write_text("".join(f"{line}\n" for line in lines_of(path)[1:]))


def repeat_line(path: Path) -> None:
    path.write_text(f"{path.read_text()}{lines_of(path)[0]}\n")


def move_out(path: Path, root: Path) -> None:
    path.symlink_to(path.rename(root.parent / "elsewhere"))


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "no folder": (
        shutil.rmtree,
        "wnids.txt in tiny-imagenet-200/ under data.root, as unpacked from "
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip, got no {}/wnids.txt",
    ),
    "no words": (
        lambda folder: (folder / "words.txt").unlink(),
        "words.txt in tiny-imagenet-200/ under data.root, as unpacked from "
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip, got no {}/words.txt",
    ),
    "no annotations": (
        lambda folder: (folder / "val/val_annotations.txt").unlink(),
        "val_annotations.txt in tiny-imagenet-200/ under data.root, as unpacked from "
        "http://cs231n.stanford.edu/tiny-imagenet-200.zip, got no {}/val/val_annotations.txt",
    ),
    "no train": (
        lambda folder: shutil.rmtree(folder / "train"),
        "folders that can be read, got {}/train: no such file or directory",
    ),
    "no images of val": (
        lambda folder: shutil.rmtree(folder / "val/images"),
        "folders that can be read, got {}/val/images: no such file or directory",
    ),
    "class missing": (
        lambda folder: shutil.rmtree(folder / "train/n01443761"),
        "the same names in {}/train and wnids.txt, got n01443761 in one of them only",
    ),
    "class not listed": (
        lambda folder: drop_line(folder / "wnids.txt"),
        "the same names in {}/train and wnids.txt, got n01443762 in one of them only",
    ),
    "class without images": (
        lambda folder: shutil.rmtree(folder / "train/n01443761/images"),
        "folders that can be read, got {}/train/n01443761/images: no such file or directory",
    ),
    "class without a word": (
        lambda folder: (folder / "words.txt").write_text("n01443760\tthing\nn01443761\tthing\n"),
        "the same names in wnids.txt and words.txt, got n01443762 in one of them only",
    ),
    "image not annotated": (
        lambda folder: drop_line(folder / "val/val_annotations.txt"),
        "the same names in {}/val/images and val_annotations.txt, got val_0.JPEG in one of them only",
    ),
    "annotated image missing": (
        lambda folder: (folder / "val/images/val_5.JPEG").unlink(),
        "the same names in {}/val/images and val_annotations.txt, got val_5.JPEG in one of them only",
    ),
    "annotation of no class": (
        lambda folder: (folder / "val/val_annotations.txt").write_text(
            (folder / "val/val_annotations.txt").read_text().replace("n01443760", "n09999999")
        ),
        "the same names in wnids.txt and {}/val/val_annotations.txt, got n01443760 in one of them only",
    ),
    "line of one field": (
        lambda folder: (folder / "words.txt").write_text("n01443760"),
        "2 fields in each line of {}/words.txt, got n01443760",
    ),
    "words not in UTF-8": (
        lambda folder: (folder / "words.txt").write_bytes(b"n01443760\tcaf\xe9\n"),
        "text in UTF-8, got {}/words.txt: 'utf-8' codec can't decode byte 0xe9",
    ),
    "class listed twice": (
        lambda folder: repeat_line(folder / "wnids.txt"),
        "each name once in {}/wnids.txt, got n01443762 2 times",
    ),
    "image annotated twice": (
        lambda folder: repeat_line(folder / "val/val_annotations.txt"),
        "each name once in {}/val/val_annotations.txt, got val_0.JPEG 2 times",
    ),
}

LINKED = [
    "train", "train/n01443760", "train/n01443760/images", "val/images", "val/images/val_0.JPEG", "words.txt",
]  # fmt: skip


@pytest.mark.parametrize(("spoil", "line"), DAMAGE.values(), ids=DAMAGE)
def test_missing_and_unexpected_files_give_a_one_line_error(
    tmp_path: Path, spoil: Callable[[Path], Any], line: str
) -> None:
    folder = written(tmp_path)
    spoil(folder)
    with pytest.raises(ConfigError) as refused:
        read_tinyimagenet(tmp_path)
    assert str(refused.value).startswith(f"data.root: expected {line.replace('{}', str(folder))}")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", LINKED)
def test_link_out_of_the_root_is_rejected(tmp_path: Path, name: str) -> None:
    root = tmp_path / "set"
    path = written(root) / name
    move_out(path, root)
    with pytest.raises(ConfigError) as refused:
        read_tinyimagenet(root)
    outside = f"{path}, a link to {tmp_path / 'elsewhere'}"
    assert str(refused.value) == f"data.root: expected links that stay in {root}, got {outside}"


@pytest.mark.parametrize("name", ["wnids.txt", "words.txt", "val/val_annotations.txt"])
def test_unreadable_file_is_rejected(open_path: Path, name: str) -> None:
    path = written(open_path) / name
    with locked(path), pytest.raises(ConfigError) as refused:
        read_tinyimagenet(open_path)
    assert str(refused.value) == f"data.root: expected files that can be read, got {path}: permission denied"
