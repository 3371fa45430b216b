import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from selfcon.config import DataConfig
from selfcon.data import source
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.data.disk_split import DiskSplit
from selfcon.data.image_folders import read_folder
from selfcon.data.split import MemorySplit, Split
from selfcon.errors import ConfigError
from tests.selfcon import tiny_datasets


def loaded(dataset: str, root: Path, **fields: Any) -> ImageDataset:
    return load_dataset(DataConfig(dataset=dataset, root=str(root), **fields))  # type: ignore[arg-type]


def images_of(split: Split) -> Tensor:
    (images_NCHW,) = split.plain([torch.arange(len(split))])
    return images_NCHW


def kinds_of(dataset: ImageDataset) -> set[type]:
    return {type(part) for part in (dataset.train, dataset.validation, dataset.test)}


def test_folder_of_equal_squares_is_read_into_memory_unchanged(tmp_path: Path) -> None:
    tiny_datasets.write_image_folder(tmp_path)
    dataset = loaded("folder", tmp_path)
    assert kinds_of(dataset) == {MemorySplit}
    assert dataset.image_size == 20
    names = read_folder(tmp_path).files.names
    for split in (dataset.train, dataset.validation, dataset.test):
        assert isinstance(split, MemorySplit)
        for image_CHW, number in zip(images_of(split), split.members_N.tolist(), strict=True):
            expected = np.asarray(Image.open(tmp_path / names[number]))
            assert np.array_equal(image_CHW.permute(1, 2, 0).numpy(), expected)


def test_splits_in_memory_share_one_copy(tmp_path: Path) -> None:
    tiny_datasets.write_cifar10(tmp_path)
    dataset = loaded("cifar10", tmp_path)
    parts = (dataset.train, dataset.validation, dataset.test)
    assert len({part.images_ACHW.data_ptr() for part in parts if isinstance(part, MemorySplit)}) == 1
    assert sum(len(part) for part in parts) == 240


@pytest.mark.parametrize(
    ("sizes", "image_size"), [(((20, 20),), 16), (((20, 20), (20, 21)), None), (((20, 30),), 20)]
)
def test_other_folders_stay_on_disk(tmp_path: Path, sizes: Any, image_size: int | None) -> None:
    tiny_datasets.write_image_folder(tmp_path, sizes=sizes)
    dataset = loaded("folder", tmp_path, image_size=image_size)
    assert kinds_of(dataset) == {DiskSplit}
    assert dataset.image_size == (image_size or 224)


def test_folder_larger_than_the_memory_limit_stays_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_datasets.write_image_folder(tmp_path)
    needed = 36 * 3 * 20 * 20
    monkeypatch.setattr(source, "MEMORY_BYTES", needed)
    assert kinds_of(loaded("folder", tmp_path)) == {MemorySplit}
    monkeypatch.setattr(source, "MEMORY_BYTES", needed - 1)
    assert kinds_of(loaded("folder", tmp_path)) == {DiskSplit}


def test_square_image_on_disk_is_resized_and_cropped(tmp_path: Path) -> None:
    tiny_datasets.write_image_folder(tmp_path, sizes=((20, 20), (40, 40)))
    (images_NCHW,) = loaded("folder", tmp_path, image_size=20).test.plain([torch.arange(3)])
    assert images_NCHW.shape == (3, 3, 20, 20)


@pytest.mark.parametrize("kept", [source.MEMORY_BYTES, 0])
@pytest.mark.parametrize("name", ["digits", "cifar10", "tinyimagenet"])
def test_images_are_resized_by_batch_if_resized_ones_do_not_fit_in_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, kept: int
) -> None:
    tiny_datasets.write_cifar10(tmp_path)
    tiny_datasets.write_tinyimagenet(tmp_path)
    resized = loaded(name, tmp_path, image_size=48)
    monkeypatch.setattr(source, "MEMORY_BYTES", kept)
    found = loaded(name, tmp_path, image_size=48)
    assert kinds_of(found) == {MemorySplit}
    assert torch.equal(images_of(found.train), images_of(resized.train))
    assert torch.equal(images_of(found.test), images_of(resized.test))
    assert (found.mean, found.std, found.digest) == (resized.mean, resized.std, resized.digest)


def test_resized_images_are_held_in_memory_if_they_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny_datasets.write_cifar10(tmp_path)
    needed = 240 * 3 * 48 * 48
    for limit, held in ((needed, 48), (needed - 1, 32)):
        monkeypatch.setattr(source, "MEMORY_BYTES", limit)
        part = loaded("cifar10", tmp_path, image_size=48).train
        assert isinstance(part, MemorySplit)
        assert part.images_ACHW.shape == (240, 3, held, held)


@pytest.mark.parametrize("image_size", [None, 64, 32, 80])
def test_tinyimagenet_is_read_into_memory_at_any_size(tmp_path: Path, image_size: int | None) -> None:
    tiny_datasets.write_tinyimagenet(tmp_path)
    dataset = loaded("tinyimagenet", tmp_path, image_size=image_size)
    assert kinds_of(dataset) == {MemorySplit}
    assert images_of(dataset.train).shape == (33, 3, image_size or 64, image_size or 64)
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [33, 3, 12]
    pixels = images_of(dataset.train).numpy() / 255
    assert dataset.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-14)
    assert dataset.std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-14)


def test_image_of_a_different_size_is_named(tmp_path: Path) -> None:
    tiny_datasets.write_tinyimagenet(tmp_path)
    path = tmp_path / "tiny-imagenet-200" / "val" / "images" / "val_3.JPEG"
    Image.new("RGB", (63, 64)).save(path)
    with pytest.raises(ConfigError) as refused:
        loaded("tinyimagenet", tmp_path)
    assert str(refused.value) == f"data.root: expected images of 64 x 64 pixels, got {path} of 63 x 64"


def test_cifar_is_normalised_by_its_training_split(tmp_path: Path) -> None:
    tiny_datasets.write_cifar100(tmp_path)
    dataset = loaded("cifar100", tmp_path, image_size=16)
    assert kinds_of(dataset) == {MemorySplit}
    pixels = images_of(dataset.train).numpy() / 255
    assert pixels.shape == (200, 3, 16, 16)
    assert dataset.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-14)
    assert len(dataset.class_names) == 100


WRITERS = {
    "cifar10": "write_cifar10",
    "cifar100": "write_cifar100",
    "tinyimagenet": "write_tinyimagenet",
    "folder": "write_image_folder",
}


@pytest.mark.parametrize("dataset", WRITERS)
def test_digest_depends_on_the_split_but_not_on_folder_or_image_size(tmp_path: Path, dataset: str) -> None:
    getattr(tiny_datasets, WRITERS[dataset])(tmp_path)
    digest = loaded(dataset, tmp_path).digest
    assert loaded(dataset, tmp_path / ".." / tmp_path.name, image_size=16, num_views=2).digest == digest
    assert loaded(dataset, tmp_path, split_seed=1).digest != digest
    assert loaded(dataset, tmp_path, validation_fraction=0.3).digest != digest


def test_digest_of_files_includes_name_size_class_and_split(tmp_path: Path) -> None:
    root = tiny_datasets.write_image_folder(tmp_path / "set", parts={"train": 12, "val": 3})
    path = root / "train" / "bee" / "003.jpg"
    digests = [loaded("folder", root).digest]
    path.write_bytes(path.read_bytes() + b"\0")
    digests.append(loaded("folder", root).digest)
    path = path.rename(path.with_name("004a.jpg"))
    digests.append(loaded("folder", root).digest)
    path.rename(root / "train" / "ant" / "004a.jpg")
    digests.append(loaded("folder", root).digest)
    (root / "train" / "bee" / "005.jpg").rename(root / "val" / "bee" / "005.jpg")
    digests.append(loaded("folder", root).digest)
    (root / "val").rename(root / "test")
    digests.append(loaded("folder", root).digest)
    assert len(set(digests)) == 6
    root.rename(tmp_path / "moved")
    assert loaded("folder", tmp_path / "moved").digest == digests[-1]


def test_digest_is_the_sha256_of_sorted_lines(tmp_path: Path) -> None:
    tiny_datasets.write_image_folder(
        tmp_path, parts={"train": 2, "test": 1}, classes=("b", "a"), suffixes=(".png",)
    )
    names = ["test/a/000.png", "test/b/000.png"]
    names += [f"train/{name}/00{number}.png" for name in "ab" for number in (0, 1)]
    lines = [f"{name} {(tmp_path / name).stat().st_size} {'ab'.index(name.split('/')[1])}" for name in names]
    text = "\n".join(['{"split_seed": 3, "validation_fraction": 0.25}', *lines])
    found = loaded("folder", tmp_path, split_seed=3, validation_fraction=0.25).digest
    assert found == hashlib.sha256(text.encode()).hexdigest()
