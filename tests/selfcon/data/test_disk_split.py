from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as oracle

from selfcon.config import DataConfig, TrainConfig
from selfcon.data.augment import Augmentation, augment, distort
from selfcon.data.batches import epoch_batches, evaluation_batches
from selfcon.data.crop import crop_boxes
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.data.disk_split import DiskSplit
from selfcon.data.draws import Stream, uniform
from selfcon.data.split import Split
from selfcon.errors import ConfigError
from tests.selfcon.tiny_datasets import write_image_folder

CPU = torch.device("cpu")
KINDS = ["none", "weak", "standard", "randaugment"]
SIZES = ((60, 80), (45, 33), (100, 64), (20, 90))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder: Path = tmp_path_factory.mktemp("images")
    write_image_folder(folder, parts={"train": 14, "test": 5}, sizes=SIZES)
    return folder


@pytest.fixture(scope="module")
def dataset(root: Path) -> ImageDataset:
    return load_dataset(DataConfig(dataset="folder", root=str(root), image_size=32))


def recipe(kind: str, *, seed: int = 3, epoch: int = 2) -> Augmentation:
    return Augmentation(kind=kind, seed=seed, epoch=epoch, num_views=2, dtype=torch.float64)


def views_of(split: Split, batches: Sequence[Tensor], augmentation: Augmentation) -> list[list[Tensor]]:
    return list(split.views(batches, augmentation, device=CPU))


def original(split: Split, index: int) -> Image.Image:
    assert isinstance(split, DiskSplit)
    return Image.open(split.files.path(int(split.members_N[index]))).convert("RGB")


def slow_crop(image: Image.Image, index: int, *, view: int) -> Image.Image:
    """Return the crop of torchvision, with the draws of seed 3, epoch 2."""
    index_1 = torch.tensor([index])
    shape_1T2 = uniform(3, 2, index_1, view=view, stream=Stream.CROP_SHAPE, count=20).view(1, 10, 2)
    place_12 = uniform(3, 2, index_1, view=view, stream=Stream.CROP_PLACE, count=2)
    (box,) = crop_boxes(shape_1T2, place_12, height=image.height, width=image.width).tolist()
    cropped: Image.Image = oracle.resized_crop(image, *box, [32, 32])
    flipped = uniform(3, 2, index_1, view=view, stream=Stream.FLIP, count=1).item() < 0.5
    return oracle.hflip(cropped) if flipped else cropped


def as_levels(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def test_images_of_several_sizes_stay_on_disk(dataset: ImageDataset) -> None:
    assert [type(part) for part in (dataset.train, dataset.validation, dataset.test)] == [DiskSplit] * 3
    assert [len(part) for part in (dataset.train, dataset.validation, dataset.test)] == [39, 3, 15]


def test_evaluation_images_are_the_centre_crops_of_torchvision(dataset: ImageDataset) -> None:
    steps = transforms.Compose([transforms.Resize(37), transforms.CenterCrop(32)])
    expected_NCHW = torch.stack([as_levels(steps(original(dataset.test, index))) for index in range(15)])
    batches = list(dataset.test.plain(torch.arange(15).split(4)))
    assert [len(images_BCHW) for images_BCHW in batches] == [4, 4, 4, 3]
    assert torch.equal(torch.cat(batches), expected_NCHW)


def test_evaluation_batches_are_normalised(dataset: ImageDataset) -> None:
    found = evaluation_batches(
        dataset.test,
        range(3, 10),
        batch_size=4,
        mean=dataset.mean,
        std=dataset.std,
        device=CPU,
        dtype=torch.float64,
    )
    (images_NCHW,) = dataset.test.plain([torch.arange(3, 10)])
    expected_NCHW = transforms.Normalize(dataset.mean, dataset.std)(images_NCHW.double() / 255)
    torch.testing.assert_close(torch.cat(list(found)), expected_NCHW, atol=1e-12, rtol=0)


def test_empty_share_gives_an_empty_batch(dataset: ImageDataset) -> None:
    (images_NCHW,) = dataset.test.plain(torch.arange(0).split(4))
    assert images_NCHW.shape == (0, 3, 32, 32)
    assert images_NCHW.dtype == torch.uint8


def test_weak_views_equal_torchvision_crops_of_the_original_images(dataset: ImageDataset) -> None:
    batches = torch.arange(39).split(16)
    found = views_of(dataset.train, batches, recipe("weak"))
    for view in range(2):
        expected = [slow_crop(original(dataset.train, index), index, view=view) for index in range(39)]
        expected_NCHW = torch.stack([as_levels(image) for image in expected]).double() / 255
        assert torch.equal(torch.cat([views[view] for views in found]), expected_NCHW)


@pytest.mark.parametrize("kind", ["standard", "randaugment"])
def test_operations_after_the_crop_equal_those_in_memory(dataset: ImageDataset, kind: str) -> None:
    indices_N = torch.tensor([5, 30, 2, 11])
    (views,) = views_of(dataset.train, [indices_N], recipe(kind))
    for view in range(2):
        cropped = []
        for index in indices_N.tolist():
            levels_1CHW = as_levels(original(dataset.train, index))[None]
            draw = recipe(kind).draw(torch.tensor([index]), view=view)
            distorted_1CHW = distort(levels_1CHW, draw) if kind == "randaugment" else levels_1CHW
            image = Image.fromarray(distorted_1CHW[0].permute(1, 2, 0).numpy())
            upright = slow_crop(image, index, view=view)
            flipped = draw(Stream.FLIP, 1).item() < 0.5
            cropped.append(as_levels(oracle.hflip(upright) if flipped else upright))
        expected_NCHW = augment(torch.stack(cropped), indices_N, recipe(kind), view=view, cropped=True)
        torch.testing.assert_close(views[view], expected_NCHW, atol=1e-12, rtol=0)


def test_without_augmentation_views_equal_evaluation_images(dataset: ImageDataset) -> None:
    (images_NCHW,) = dataset.train.plain([torch.arange(39)])
    (views,) = views_of(dataset.train, [torch.arange(39)], recipe("none"))
    assert len(views) == 2
    assert all(torch.equal(view_NCHW, images_NCHW.double() / 255) for view_NCHW in views)


@pytest.mark.parametrize("kind", KINDS)
def test_views_do_not_depend_on_the_batch_or_the_threads(
    dataset: ImageDataset, kind: str, some_threads: int
) -> None:
    order_N = torch.randperm(39, generator=torch.Generator().manual_seed(1))
    (together,) = views_of(dataset.train, [torch.arange(39)], recipe(kind))
    apart = views_of(dataset.train, order_N.split(some_threads + 3), recipe(kind))
    for view in range(2):
        found_NCHW = torch.cat([views[view] for views in apart])
        torch.testing.assert_close(found_NCHW, together[view][order_N], atol=1e-12, rtol=0)


@pytest.fixture(params=[1, 2, 5])
def some_threads(request: pytest.FixtureRequest) -> Iterator[int]:
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.mark.parametrize("change", [{"epoch": 3}, {"seed": 4}])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_views_depend_on_epoch_seed_and_view(
    dataset: ImageDataset, kind: str, change: dict[str, int]
) -> None:
    (first, second), (other, _) = (
        views_of(dataset.train, [torch.arange(39)], recipe(kind, **changes))[0] for changes in ({}, change)
    )
    for different_NCHW in (second, other):
        # Few boxes fit very long images, so both views are often the central box.
        assert ((first - different_NCHW).abs().amax(dim=(1, 2, 3)) > 0.01).double().mean() > 0.8


def test_channel_statistics_are_those_of_imagenet(dataset: ImageDataset) -> None:
    assert (dataset.mean, dataset.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def test_epoch_batches_work_from_disk(dataset: ImageDataset) -> None:
    config = TrainConfig.from_flat({"data.num_views": 2, "optim.global_batch_size": 8, "seed": 3})
    batches = list(epoch_batches(dataset, config=config, epoch=2, device=CPU, dtype=torch.float32))
    assert [images_RCHW.shape for images_RCHW, _ in batches] == [(16, 3, 32, 32)] * 4
    assert sum(len(labels_B) for _, labels_B in batches) == 32
    assert not any(images_RCHW.isnan().any() for images_RCHW, _ in batches)


@pytest.mark.parametrize("kind", ["weak", "none"])
def test_image_damaged_after_loading_is_named(tmp_path: Path, kind: str) -> None:
    root = write_image_folder(tmp_path, sizes=SIZES, suffixes=(".jpg",))
    split = load_dataset(DataConfig(dataset="folder", root=str(root), image_size=16)).train
    assert isinstance(split, DiskSplit)
    path = split.files.path(int(split.members_N[5]))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(ConfigError, match=rf"^data\.root: .* got {path}: image file is truncated"):
        views_of(split, torch.arange(len(split)).split(8), recipe(kind))
    path.unlink()
    with pytest.raises(ConfigError, match=rf"^data\.root: .* got {path}: no such file or directory$"):
        list(split.plain(torch.arange(len(split)).split(8)))
