import hashlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.datasets import CIFAR10, CIFAR100

from selfcon.data import cifar
from selfcon.data.cifar import read_cifar10, read_cifar100
from selfcon.errors import ConfigError
from tests.selfcon import tiny_datasets
from tests.selfcon.data.locked_files import locked

Sets = tuple[Callable[[Path], Any], str, Any]


BOTH: list[Sets] = [(read_cifar10, "write_cifar10", CIFAR10), (read_cifar100, "write_cifar100", CIFAR100)]


def torchvisions(layout: Any, root: Path, monkeypatch: pytest.MonkeyPatch, *, train: bool) -> Any:
    """Return torchvision's reader, patched to accept files other than the published ones."""
    monkeypatch.setattr(layout, "_check_integrity", lambda _: True)
    monkeypatch.setattr("torchvision.datasets.cifar.check_integrity", lambda *_: True)
    return layout(str(root), train=train)


@pytest.mark.parametrize(("read", "write", "layout"), BOTH)
def test_images_labels_and_names_equal_torchvision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read: Any, write: str, layout: Any
) -> None:
    source = read(getattr(tiny_datasets, write)(tmp_path))
    parts = [torchvisions(layout, tmp_path, monkeypatch, train=train) for train in (True, False)]
    data_NHWC = np.concatenate([part.data for part in parts])
    assert source.images_NCHW.dtype == torch.uint8
    assert np.array_equal(source.images_NCHW.permute(0, 2, 3, 1).numpy(), data_NHWC)
    assert source.labels_N.tolist() == [label for part in parts for label in part.targets]
    assert source.labels_N.dtype == torch.int64
    assert list(source.class_names) == parts[0].classes
    num_train, num_all = len(parts[0]), len(data_NHWC)
    assert dict(source.given) == {"train": range(num_train), "test": range(num_train, num_all)}
    assert source.image_size == 32


@pytest.mark.parametrize(("read", "write", "layout"), BOTH)
def test_missing_files_are_named_with_their_expected_location(
    tmp_path: Path, read: Any, write: str, layout: Any
) -> None:
    folder = getattr(tiny_datasets, write)(tmp_path) / layout.base_folder
    names = [*(name for name, _ in layout.train_list + layout.test_list), layout.meta["filename"]]
    assert sorted(path.name for path in folder.iterdir()) == sorted(names)
    for name in names:
        (folder / name).rename(tmp_path / "away")
        with pytest.raises(ConfigError) as refused:
            read(tmp_path)
        expected = f"{name} in {layout.base_folder}/ under data.root, as unpacked from {layout.url}"
        assert str(refused.value) == f"data.root: expected {expected}, got no {folder / name}"
        (tmp_path / "away").rename(folder / name)


def changed(path: Path, **fields: Any) -> None:
    table = pickle.loads(path.read_bytes(), encoding="bytes")
    table |= {name.encode(): value for name, value in fields.items()}
    tiny_datasets.write_python2_pickle(
        path, {name: value for name, value in table.items() if value is not None}
    )


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "cut off": (lambda path: path.write_bytes(path.read_bytes()[:-9]), ""),
    "empty": (lambda path: path.write_bytes(b""), "Ran out of input"),
    "text": (lambda path: path.write_text("text"), ""),
    "a list": (
        lambda path: tiny_datasets.write_python2_pickle(path, [1]),
        "'list' object has no attribute",
    ),
    "code": (
        lambda path: path.write_bytes(pickle.dumps(eval)),
        "it refers to builtins.eval, which",
    ),
    "no images": (lambda path: changed(path, data=None), "no array of images as data"),
    "images as text": (lambda path: changed(path, data=b"x" * 3072), "no array of images as data"),
    "floats": (
        lambda path: changed(path, data=np.zeros((40, 3072))),
        "an array that is not uint8",
    ),
    "other size": (lambda path: changed(path, data=np.zeros((40, 3071), np.uint8)), "cannot reshape array"),
    "other count": (
        lambda path: changed(path, data=np.zeros((39, 3072), np.uint8)),
        "not one of labels for each of 39 images",
    ),
    "no image": (
        lambda path: changed(path, data=np.zeros((0, 3072), np.uint8), labels=[]),
        "not one of labels for each of 0 images",
    ),
    "no labels": (lambda path: changed(path, labels=None), "not one of labels for each of 40 images"),
    "high label": (lambda path: changed(path, labels=[0] * 39 + [10]), "labels other than 0 to 9"),
    "low label": (lambda path: changed(path, labels=[0] * 39 + [-1]), "labels other than 0 to 9"),
    "float label": (lambda path: changed(path, labels=[0.0] * 40), "labels other than 0 to 9"),
}


@pytest.mark.parametrize(("spoil", "reason"), DAMAGE.values(), ids=DAMAGE)
@pytest.mark.parametrize("name", ["data_batch_3", "test_batch"])
def test_damaged_batch_is_rejected_by_name(
    tmp_path: Path, name: str, spoil: Callable[[Path], object], reason: str
) -> None:
    path = tiny_datasets.write_cifar10(tmp_path) / "cifar-10-batches-py" / name
    spoil(path)
    with pytest.raises(ConfigError) as refused:
        read_cifar10(tmp_path)
    expected = f"data.root: expected CIFAR's files as published, got {path}: {reason}"
    assert str(refused.value).startswith(expected)


@pytest.mark.parametrize("names", [None, b"airplane", [1, 2]])
def test_missing_class_names_are_rejected(tmp_path: Path, names: Any) -> None:
    path = tiny_datasets.write_cifar10(tmp_path) / "cifar-10-batches-py" / "batches.meta"
    changed(path, label_names=names)
    with pytest.raises(ConfigError, match=rf"got {path}: no list of names as label_names$"):
        read_cifar10(tmp_path)


def test_class_names_that_are_not_text_are_rejected(tmp_path: Path) -> None:
    path = tiny_datasets.write_cifar10(tmp_path) / "cifar-10-batches-py" / "batches.meta"
    changed(path, label_names=[b"airplane", b"caf\xe9"])
    with pytest.raises(ConfigError, match=rf"got {path}: 'utf-8' codec can't decode byte 0xe9 .*$"):
        read_cifar10(tmp_path)


def test_unreadable_file_is_rejected(open_path: Path) -> None:
    path = tiny_datasets.write_cifar10(open_path) / "cifar-10-batches-py" / "data_batch_1"
    with locked(path), pytest.raises(ConfigError) as refused:
        read_cifar10(open_path)
    assert str(refused.value) == f"data.root: expected files that can be read, got {path}: permission denied"


def test_link_out_of_the_root_is_rejected(tmp_path: Path) -> None:
    tiny_datasets.write_cifar10(tmp_path / "elsewhere")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "cifar-10-batches-py").symlink_to(tmp_path / "elsewhere" / "cifar-10-batches-py")
    with pytest.raises(ConfigError, match=r"expected links that stay in .*root, got .*elsewhere"):
        read_cifar10(tmp_path / "root")


def test_a_data_set_of_the_published_size_must_have_the_published_checksums(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_datasets.write_cifar10(tmp_path)
    monkeypatch.setattr(cifar, "PUBLISHED_COUNT", 240)
    with pytest.raises(ConfigError, match=r"data_batch_1: wrong MD5 sum$"):
        read_cifar10(tmp_path)


def test_published_checksums_are_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tiny_datasets.write_cifar10(tmp_path) / "cifar-10-batches-py"
    monkeypatch.setattr(cifar, "PUBLISHED_COUNT", 240)
    sums = {path.name: hashlib.md5(path.read_bytes()).hexdigest() for path in folder.iterdir()}
    for field in ("train_list", "test_list"):
        files = [[name, sums[name]] for name, _ in getattr(CIFAR10, field)]
        monkeypatch.setattr(CIFAR10, field, files)
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["batches.meta"]})
    assert len(read_cifar10(tmp_path).labels_N) == 240
    monkeypatch.setattr(CIFAR10, "meta", CIFAR10.meta | {"md5": sums["test_batch"]})
    with pytest.raises(ConfigError, match=r"batches\.meta: wrong MD5 sum$"):
        read_cifar10(tmp_path)
