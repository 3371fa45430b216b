import hashlib
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor
from torchvision.transforms import functional as oracle

from selfcon.config import DataConfig
from selfcon.data.dataset import ImageDataset, Split, channel_statistics, data_digest, load_dataset, resize
from selfcon.data.digits import read_digits
from selfcon.errors import ConfigError

SPLIT = {"validation_fraction": 0.1, "split_seed": 0}


def digits(**fields: Any) -> ImageDataset:
    return load_dataset(DataConfig(**fields))


def fingerprint(split: Split) -> str:
    content = split.images_NCHW.numpy().tobytes() + split.labels_N.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def keys(split: Split) -> set[bytes]:
    """The images as values; no two digits are the same."""
    return {image.tobytes() for image in split.images_NCHW.numpy()}


def random_images(num_images: int = 20, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (num_images, 3, size, size), generator=generator, dtype=torch.uint8)


def test_digits_are_scikit_learns_as_grey_images() -> None:
    images_NCHW, labels_N = read_digits()
    original = load_digits()
    assert images_NCHW.dtype == torch.uint8
    assert labels_N.dtype == torch.int64
    expected = np.rint(original.images * 255 / 16)
    for channel in range(3):
        assert np.array_equal(images_NCHW[:, channel].numpy(), expected)
    assert np.array_equal(labels_N.numpy(), original.target)


def test_the_test_part_is_the_same_for_ever() -> None:
    assert fingerprint(digits().test) == "f5dce88b7db925bb02db489609950bd99a4b3f389f130a92af23b8d95008f183"


@pytest.mark.parametrize(
    "fields", [{"split_seed": 7}, {"validation_fraction": 0.4}, {"augmentation": "none"}]
)
def test_no_setting_moves_the_test_part(fields: dict[str, Any]) -> None:
    assert fingerprint(digits(**fields).test) == fingerprint(digits().test)


def test_the_classes_are_in_every_part_in_their_share() -> None:
    dataset = digits()
    parts = (dataset.train, dataset.validation, dataset.test)
    counts = [torch.bincount(part.labels_N).tolist() for part in parts]
    assert [len(part) for part in parts] == [1295, 143, 359]
    assert counts == [
        [128, 131, 128, 131, 131, 131, 131, 129, 125, 130],
        [14, 15, 14, 15, 14, 15, 14, 14, 14, 14],
        [36, 36, 35, 37, 36, 36, 36, 36, 35, 36],
    ]
    assert dataset.class_names == tuple("0123456789")


def test_the_parts_share_no_image_and_leave_none_out() -> None:
    dataset = digits(validation_fraction=0.3)
    train, validation, test = (keys(part) for part in (dataset.train, dataset.validation, dataset.test))
    assert len(train | validation | test) == len(train) + len(validation) + len(test) == 1797


def test_images_keep_their_labels() -> None:
    images_NCHW, labels_N = read_digits()
    pairs = zip(images_NCHW.numpy(), labels_N.tolist(), strict=True)
    labels = {image.tobytes(): label for image, label in pairs}
    for part in (digits().train, digits().validation, digits().test):
        assert [labels[image.tobytes()] for image in part.images_NCHW.numpy()] == part.labels_N.tolist()


def test_the_split_seed_draws_the_validation_part() -> None:
    first, again, other = (keys(digits(split_seed=seed).validation) for seed in (0, 0, 1))
    assert first == again
    assert len(first & other) < 40


def test_images_have_the_size_asked_for() -> None:
    assert digits().image_size == 8
    assert digits().train.images_NCHW.shape == (1295, 3, 8, 8)
    large = digits(image_size=20)
    assert large.image_size == 20
    assert {part.images_NCHW.shape[1:] for part in (large.train, large.validation, large.test)} == {
        (3, 20, 20)
    }
    assert torch.equal(large.train.images_NCHW, resize(digits().train.images_NCHW, 20))


@pytest.mark.parametrize("size", [3, 5, 6, 12, 16])
def test_resizing_is_torchvisions(size: int) -> None:
    found_NCHW = resize(random_images(), size)
    expected_NCHW = oracle.resize(random_images().double(), [size, size], antialias=True)
    assert found_NCHW.dtype == torch.uint8
    torch.testing.assert_close(found_NCHW.double(), expected_NCHW, atol=0.5 + 1e-3, rtol=0)


def test_images_of_the_right_size_are_not_touched() -> None:
    assert torch.equal(resize(random_images(), 6), random_images())


def test_mean_and_deviation_are_those_of_the_training_part() -> None:
    dataset = digits(image_size=16)
    pixels = dataset.train.images_NCHW.numpy() / 255
    assert dataset.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-14)
    assert dataset.std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-14)


def test_mean_and_deviation_are_by_channel() -> None:
    images_NCHW = random_images()
    images_NCHW[:, 1] //= 2
    images_NCHW[:, 2] = 51
    mean, std = channel_statistics(images_NCHW)
    pixels = images_NCHW.numpy() / 255
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-15)
    assert std[:2] == pytest.approx(pixels.std(axis=(0, 2, 3))[:2], abs=1e-15)
    assert std[2] == 1


def test_the_digest_never_changes() -> None:
    assert digits().digest == "bc1713cdffceef6c99ee3e560fe5150e999ee9839395a213e3a01fc28e8bda5a"


@pytest.mark.parametrize("fields", [{"split_seed": 1}, {"validation_fraction": 0.2}])
def test_another_split_is_another_digest(fields: dict[str, Any]) -> None:
    assert digits(**fields).digest != digits().digest


@pytest.mark.parametrize(
    "fields", [{"image_size": 16}, {"num_views": 2}, {"augmentation": "weak"}, {"root": "elsewhere"}]
)
def test_what_is_done_with_the_images_does_not_change_the_digest(fields: dict[str, Any]) -> None:
    assert digits(**fields).digest == digits().digest


def test_the_digest_holds_every_pixel_and_every_class() -> None:
    images_NCHW, labels_N = random_images(), torch.arange(20)
    digests = {data_digest(images_NCHW, labels_N, split=SPLIT)}
    images_NCHW[7, 1, 2, 3] ^= 1
    digests.add(data_digest(images_NCHW, labels_N, split=SPLIT))
    digests.add(data_digest(images_NCHW, labels_N.roll(1), split=SPLIT))
    digests.add(data_digest(images_NCHW[:-1], labels_N[:-1], split=SPLIT))
    assert len(digests) == 4


def test_the_digest_does_not_depend_on_the_order_of_the_images() -> None:
    images_NCHW, labels_N, order_N = random_images(), torch.arange(20), torch.arange(20).flip(0)
    first = data_digest(images_NCHW, labels_N, split=SPLIT)
    assert data_digest(images_NCHW[order_N], labels_N[order_N], split=dict(reversed(SPLIT.items()))) == first


def test_a_data_set_that_is_not_built_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        digits(dataset="cifar10")
    assert str(caught.value) == "data.dataset: expected digits (the only one built yet), got cifar10"
