import itertools
from typing import Any

import pytest
import torch
from torch import Tensor

import selfcon.distributed
from selfcon.config import DataConfig, TrainConfig
from selfcon.data.augment import Augmentation, augment, normalise
from selfcon.data.batches import epoch_batches, evaluation_batches, num_steps
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.data.draws import permutation
from selfcon.errors import ConfigError

CPU = torch.device("cpu")
NUM_TRAIN = 1295

Batch = tuple[Tensor, Tensor]


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset(DataConfig())


def config_with(**changes: Any) -> TrainConfig:
    """A double underscore in a name is a dot."""
    values = {"data__augmentation": "weak", "optim__global_batch_size": 130, "seed": 4} | changes
    return TrainConfig.from_flat({name.replace("__", "."): value for name, value in values.items()})


def batches_of(
    dataset: ImageDataset, config: TrainConfig, *, epoch: int = 3, dtype: torch.dtype = torch.float64
) -> list[Batch]:
    return list(epoch_batches(dataset, config=config, epoch=epoch, device=CPU, dtype=dtype))


def batches_by_rank(
    monkeypatch: pytest.MonkeyPatch, dataset: ImageDataset, config: TrainConfig, *, world_size: int
) -> list[list[Batch]]:
    """Return the batches of each rank of a group."""
    monkeypatch.setattr(selfcon.distributed, "world_size", lambda: world_size)
    monkeypatch.setattr("selfcon.data.batches.world_size", lambda: world_size)
    batches = []
    for rank in range(world_size):
        monkeypatch.setattr(selfcon.distributed, "rank", lambda rank=rank: rank)
        batches.append(batches_of(dataset, config))
    monkeypatch.undo()
    return batches


@pytest.mark.parametrize(
    ("num_train", "batch", "expected"), [(100, 10, 10), (109, 10, 10), (10, 10, 1), (7, 2, 3)]
)
def test_incomplete_last_batch_is_dropped(num_train: int, batch: int, expected: int) -> None:
    assert num_steps(num_train, batch) == expected


def test_batch_larger_than_the_training_split_is_rejected(dataset: ImageDataset) -> None:
    with pytest.raises(ConfigError) as caught:
        num_steps(100, 101)
    assert str(caught.value) == "optim.global_batch_size: expected at most the 100 training images, got 101"
    with pytest.raises(ConfigError, match="at most the 1295 training images, got 1296"):
        batches_of(dataset, config_with(optim__global_batch_size=1296))


def test_batch_smaller_than_the_number_of_workers_is_rejected(
    monkeypatch: pytest.MonkeyPatch, dataset: ImageDataset
) -> None:
    monkeypatch.setattr("selfcon.data.batches.world_size", lambda: 3)
    with pytest.raises(ConfigError) as caught:
        batches_of(dataset, config_with(optim__global_batch_size=2))
    expected = "at least 3, an image for each worker, got 2"
    assert str(caught.value) == f"optim.global_batch_size: expected {expected}"


def test_batches_are_consecutive_parts_of_the_permutation(dataset: ImageDataset) -> None:
    batches = batches_of(dataset, config_with())
    assert len(batches) == 9
    order_N = permutation(4, 3, NUM_TRAIN)
    for (_, labels_B), indices_B in zip(batches, order_N.split(130), strict=False):
        assert torch.equal(labels_B, dataset.train.labels_N[indices_B])


@pytest.mark.parametrize("kind", ["standard", "weak", "randaugment", "none"])
@pytest.mark.parametrize("num_views", [1, 2])
def test_rows_are_augmented_and_normalised_and_ordered_by_view(
    dataset: ImageDataset, kind: str, num_views: int
) -> None:
    config = config_with(data__augmentation=kind, data__num_views=num_views)
    images_RCHW, labels_B = batches_of(dataset, config)[5]
    indices_B = permutation(4, 3, NUM_TRAIN)[650:780]
    assert images_RCHW.shape == (130 * num_views, 3, 8, 8)
    assert labels_B.shape == (130,)
    augmentation = Augmentation(kind=kind, seed=4, epoch=3, num_views=num_views, dtype=torch.float64)
    (images_BCHW,) = dataset.train.plain([indices_B])
    for view in range(num_views):
        augmented_BCHW = augment(images_BCHW, indices_B, augmentation, view=view)
        expected_BCHW = normalise(augmented_BCHW, mean=dataset.mean, std=dataset.std)
        assert torch.equal(images_RCHW[130 * view : 130 * (view + 1)], expected_BCHW)


def test_two_views_of_an_image_differ(dataset: ImageDataset) -> None:
    images_RCHW, _ = batches_of(dataset, config_with(data__num_views=2))[0]
    first_BCHW, second_BCHW = images_RCHW.chunk(2)
    # Both views can be the entire image, as small images have few crops.
    differ_B = (first_BCHW - second_BCHW).abs().amax(dim=(1, 2, 3)) > 0.01
    assert differ_B.double().mean() > 0.95


@pytest.mark.parametrize("world_size", [2, 3, 4])
def test_shares_of_all_ranks_form_the_batch_of_one_process(
    monkeypatch: pytest.MonkeyPatch, dataset: ImageDataset, world_size: int
) -> None:
    config = config_with(data__num_views=2, data__augmentation="standard")
    alone = batches_of(dataset, config)
    together = zip(*batches_by_rank(monkeypatch, dataset, config, world_size=world_size), strict=True)
    for (images_RCHW, labels_B), parts in zip(alone, together, strict=True):
        views = [part_RCHW.chunk(2) for part_RCHW, _ in parts]
        joined_RCHW = torch.cat(
            [view for views_of_rank in zip(*views, strict=True) for view in views_of_rank]
        )
        torch.testing.assert_close(joined_RCHW, images_RCHW, atol=1e-12, rtol=0)
        assert torch.equal(torch.cat([labels for _, labels in parts]), labels_B)


def test_shares_of_ranks_differ_by_at_most_one_image(
    monkeypatch: pytest.MonkeyPatch, dataset: ImageDataset
) -> None:
    ranks = batches_by_rank(monkeypatch, dataset, config_with(), world_size=4)
    assert [len(batches[0][1]) for batches in ranks] == [32, 33, 32, 33]


def test_batches_of_an_epoch_do_not_depend_on_earlier_epochs(dataset: ImageDataset) -> None:
    config = config_with(data__augmentation="standard")
    first = batches_of(dataset, config)
    torch.manual_seed(99)
    batches_of(dataset, config, epoch=0)
    for (images_RCHW, labels_B), (again_RCHW, same_B) in zip(first, batches_of(dataset, config), strict=True):
        assert torch.equal(images_RCHW, again_RCHW)
        assert torch.equal(labels_B, same_B)


@pytest.mark.parametrize(("changes", "epoch"), [({}, 4), ({"seed": 5}, 3)])
def test_batches_differ_between_epochs_and_seeds(
    dataset: ImageDataset, changes: dict[str, Any], epoch: int
) -> None:
    before, after = (
        batches_of(dataset, config_with()),
        batches_of(dataset, config_with(**changes), epoch=epoch),
    )
    assert not any(torch.equal(old[1], new[1]) for old, new in zip(before, after, strict=True))


def test_every_image_is_used_over_several_epochs() -> None:
    left_out = [set(permutation(0, epoch, NUM_TRAIN)[1170:].tolist()) for epoch in range(12)]
    assert set.intersection(*left_out) == set()
    assert all(first != second for first, second in itertools.pairwise(left_out))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_batches_have_the_requested_dtype(dataset: ImageDataset, dtype: torch.dtype) -> None:
    images_RCHW, labels_B = batches_of(dataset, config_with(), dtype=dtype)[0]
    assert images_RCHW.dtype == dtype
    assert labels_B.dtype == torch.int64


@pytest.mark.parametrize("share", [range(143), range(20, 97), range(5, 5)])
def test_evaluation_batches_are_unaugmented_and_in_order(dataset: ImageDataset, share: range) -> None:
    batches = list(
        evaluation_batches(
            dataset.validation,
            share,
            batch_size=32,
            mean=dataset.mean,
            std=dataset.std,
            device=CPU,
            dtype=torch.float64,
        )
    )
    (images_NCHW,) = dataset.validation.plain([torch.arange(share.start, share.stop)])
    expected_NCHW = normalise(images_NCHW.double() / 255, mean=dataset.mean, std=dataset.std)
    assert torch.equal(torch.cat(batches), expected_NCHW)
    assert all(len(images_BCHW) == 32 for images_BCHW in batches[:-1])
