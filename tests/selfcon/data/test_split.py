import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as oracle

from selfcon.data import split
from selfcon.data.augment import Augmentation
from selfcon.data.split import MemorySplit, resize

CPU = torch.device("cpu")


def random_images(num_images: int = 20, size: int = 9) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (num_images, 3, size, size), generator=generator, dtype=torch.uint8)


def part(images_ACHW: Tensor, *, image_size: int) -> MemorySplit:
    members_N = torch.tensor([3, 4, 7, 8, 9, 12, 19])
    return MemorySplit(torch.zeros(7, dtype=torch.int64), images_ACHW, members_N, image_size)


@pytest.mark.parametrize("size", [3, 5, 8, 12, 16])
def test_resizing_equals_torchvision(size: int) -> None:
    found_NCHW = resize(random_images(), size)
    expected_NCHW = oracle.resize(random_images().double(), [size, size], antialias=True)
    assert found_NCHW.dtype == torch.uint8
    torch.testing.assert_close(found_NCHW.double(), expected_NCHW, atol=0.5 + 1e-3, rtol=0)


def test_images_of_the_right_size_are_unchanged() -> None:
    images_NCHW = random_images()
    assert resize(images_NCHW, 9) is images_NCHW


@pytest.mark.parametrize("size", [5, 12, 17])
def test_resizing_in_chunks_equals_resizing_at_once(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    at_once_NCHW = resize(random_images(), size)
    monkeypatch.setattr(split, "_PIXELS_AT_ONCE", 7 * 9 * 9)
    assert torch.equal(resize(random_images(), size), at_once_NCHW)
    monkeypatch.setattr(split, "_PIXELS_AT_ONCE", 1)
    assert torch.equal(resize(random_images(), size), at_once_NCHW)


@pytest.mark.parametrize("size", [5, 9, 16])
def test_resizing_by_batch_equals_resizing_in_advance(size: int) -> None:
    later, before = (
        part(random_images(), image_size=size),
        part(resize(random_images(), size), image_size=size),
    )
    batches = torch.tensor([6, 0, 2, 5, 1, 3]).split(4)
    assert later.images_ACHW.shape[2] == 9
    for found_BCHW, expected_BCHW in zip(later.plain(batches), before.plain(batches), strict=True):
        assert torch.equal(found_BCHW, expected_BCHW)
    augmentation = Augmentation(kind="standard", seed=1, epoch=2, num_views=2, dtype=torch.float32)
    found, expected = (list(s.views(batches, augmentation, device=CPU)) for s in (later, before))
    assert [len(views) for views in found] == [2, 2]
    for views, expected_views in zip(found, expected, strict=True):
        assert torch.equal(torch.stack(views), torch.stack(expected_views))
    assert later.channel_statistics() == before.channel_statistics()


def test_resizing_an_empty_batch_gives_an_empty_batch() -> None:
    (images_BCHW,) = part(random_images(), image_size=16).plain([torch.arange(0)])
    assert images_BCHW.shape == (0, 3, 16, 16)
    assert images_BCHW.dtype == torch.uint8
