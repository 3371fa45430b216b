import pytest
import torch

from selfcon.data.statistics import channel_statistics


def test_mean_and_deviation_are_computed_by_channel() -> None:
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(256, (20, 3, 6, 6), generator=generator, dtype=torch.uint8)
    images_NCHW[:, 1] //= 2
    images_NCHW[:, 2] = 51
    mean, std = channel_statistics(images_NCHW.split(7))
    pixels = images_NCHW.numpy() / 255
    assert mean == pytest.approx(pixels.mean(axis=(0, 2, 3)), abs=1e-15)
    assert std[:2] == pytest.approx(pixels.std(axis=(0, 2, 3))[:2], abs=1e-15)
    assert std[2] == 1


def test_statistics_do_not_depend_on_the_batches() -> None:
    images_NCHW = torch.arange(10 * 3 * 5 * 4).remainder(251).to(torch.uint8).view(10, 3, 5, 4)
    together = channel_statistics([images_NCHW])
    assert channel_statistics(images_NCHW.split(1)) == together
    assert channel_statistics([images_NCHW.flip(0)]) == together
