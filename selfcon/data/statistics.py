"""Mean and standard deviation of images by channel, bit-identical on all machines.

Shape letters: N images, C = 3 channels, H height, W width.
"""

import math
from collections.abc import Iterable

import torch
from torch import Tensor

Channels = tuple[float, float, float]  # red, green, blue


def channel_statistics(batches: Iterable[Tensor]) -> tuple[Channels, Channels]:
    """Return mean and standard deviation of the pixels in [0, 1] of batches of uint8 images, by channel.

    Computed in integers until the last division, so the result does not depend on machine or batches. The
    standard deviation of a constant channel is 1.
    """
    counts = torch.zeros(3, 256, dtype=torch.int64)
    for images_NCHW in batches:
        for channel in range(3):
            counts[channel] += torch.bincount(images_NCHW[:, channel].flatten(), minlength=256)
    (red, red_std), (green, green_std), (blue, blue_std) = map(_mean_and_std, counts.tolist())
    return (red, green, blue), (red_std, green_std, blue_std)


def _mean_and_std(counts: list[int]) -> tuple[float, float]:
    num_pixels = sum(counts)
    total = sum(value * count for value, count in enumerate(counts))
    squares = sum(value * value * count for value, count in enumerate(counts))
    variance = (num_pixels * squares - total * total) / (255 * num_pixels) ** 2
    return total / (255 * num_pixels), math.sqrt(variance) or 1.0
