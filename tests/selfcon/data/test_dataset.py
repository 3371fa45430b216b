import hashlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from torch import Tensor

from selfcon.config import DataConfig
from selfcon.data.dataset import ImageDataset, Split, data_digest, load_dataset
from selfcon.data.digits import read_digits
from selfcon.data.source import ArraySource
from selfcon.data.split import resize

SPLIT = {"validation_fraction": 0.1, "split_seed": 0}


def digits(**fields: Any) -> ImageDataset:
    return load_dataset(DataConfig(**fields))


def images_of(split: Split) -> Tensor:
    (images_NCHW,) = split.plain([torch.arange(len(split))])
    return images_NCHW


def fingerprint(split: Split) -> str:
    content = images_of(split).numpy().tobytes() + split.labels_N.numpy().tobytes()
    return hashlib.sha256(content).hexdigest()


def keys(split: Split) -> set[bytes]:
    """Return the images as hashable values; all digits are different."""
    return {image.tobytes() for image in images_of(split).numpy()}


def random_images(num_images: int = 20, size: int = 6) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (num_images, 3, size, size), generator=generator, dtype=torch.uint8)


def test_digits_are_the_grey_images_of_scikit_learn() -> None:
    source = read_digits(Path("nowhere"))
    images_NCHW, labels_N = source.images_NCHW, source.labels_N
    original = load_digits()
    assert images_NCHW.dtype == torch.uint8
    assert labels_N.dtype == torch.int64
    expected = np.rint(original.images * 255 / 16)
    for channel in range(3):
        assert np.array_equal(images_NCHW[:, channel].numpy(), expected)
    assert np.array_equal(labels_N.numpy(), original.target)


def test_test_split_never_changes() -> None:
    assert fingerprint(digits().test) == "f5dce88b7db925bb02db489609950bd99a4b3f389f130a92af23b8d95008f183"


@pytest.mark.parametrize(
    "fields", [{"split_seed": 7}, {"validation_fraction": 0.4}, {"augmentation": "none"}]
)
def test_no_setting_changes_the_test_split(fields: dict[str, Any]) -> None:
    assert fingerprint(digits(**fields).test) == fingerprint(digits().test)


def test_splits_are_stratified() -> None:
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


def test_splits_are_disjoint_and_complete() -> None:
    dataset = digits(validation_fraction=0.3)
    train, validation, test = (keys(part) for part in (dataset.train, dataset.validation, dataset.test))
    assert len(train | validation | test) == len(train) + len(validation) + len(test) == 1797


def test_images_keep_their_labels() -> None:
    source = read_digits(Path("nowhere"))
    pairs = zip(source.images_NCHW.numpy(), source.labels_N.tolist(), strict=True)
    labels = {image.tobytes(): label for image, label in pairs}
    for part in (digits().train, digits().validation, digits().test):
        assert [labels[image.tobytes()] for image in images_of(part).numpy()] == part.labels_N.tolist()


def test_split_seed_selects_the_validation_split() -> None:
    first, again, other = (keys(digits(split_seed=seed).validation) for seed in (0, 0, 1))
    assert first == again
    assert len(first & other) < 40


def test_images_have_the_configured_size() -> None:
    assert digits().image_size == 8
    assert images_of(digits().train).shape == (1295, 3, 8, 8)
    large = digits(image_size=20)
    assert large.image_size == 20
    assert {images_of(part).shape[1:] for part in (large.train, large.validation, large.test)} == {
        (3, 20, 20)
    }
    assert torch.equal(images_of(large.train), resize(images_of(digits().train), 20))


def test_mean_and_deviation_are_those_of_the_training_split() -> None:
    dataset = digits(image_size=16)
    pixels = images_of(dataset.train).numpy() / 255
    assert dataset.mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-14)
    assert dataset.std == pytest.approx(pixels.std(axis=(0, 2, 3)), abs=1e-14)


def test_digest_never_changes() -> None:
    assert digits().digest == "bc1713cdffceef6c99ee3e560fe5150e999ee9839395a213e3a01fc28e8bda5a"


@pytest.mark.parametrize("fields", [{"split_seed": 1}, {"validation_fraction": 0.2}])
def test_digest_depends_on_the_split(fields: dict[str, Any]) -> None:
    assert digits(**fields).digest != digits().digest


@pytest.mark.parametrize(
    "fields", [{"image_size": 16}, {"num_views": 2}, {"augmentation": "weak"}, {"root": "elsewhere"}]
)
def test_digest_does_not_depend_on_the_processing_of_images(fields: dict[str, Any]) -> None:
    assert digits(**fields).digest == digits().digest


def digest_of(
    images_NCHW: Tensor, labels_N: Tensor, *, num_train: int = 20, split: dict[str, float] = SPLIT
) -> str:
    source = ArraySource(
        labels_N=labels_N,
        class_names=("a", "b"),
        given={"train": range(num_train), "test": range(num_train, len(labels_N))},
        image_size=6,
        images_NCHW=images_NCHW,
    )
    return data_digest(source.identities(), split=split)


def test_digest_depends_on_every_pixel_and_class() -> None:
    images_NCHW, labels_N = random_images(), torch.arange(20)
    digests = {digest_of(images_NCHW, labels_N)}
    images_NCHW[7, 1, 2, 3] ^= 1
    digests.add(digest_of(images_NCHW, labels_N))
    digests.add(digest_of(images_NCHW, labels_N.roll(1)))
    digests.add(digest_of(images_NCHW[:-1], labels_N[:-1], num_train=19))
    digests.add(digest_of(images_NCHW, labels_N, num_train=19))
    assert len(digests) == 5


def test_digest_does_not_depend_on_the_order_of_the_images() -> None:
    images_NCHW, labels_N, order_N = random_images(), torch.arange(20), torch.arange(20).flip(0)
    first = digest_of(images_NCHW, labels_N)
    assert digest_of(images_NCHW[order_N], labels_N[order_N], split=dict(reversed(SPLIT.items()))) == first
