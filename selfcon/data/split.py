"""Split of a data set: labels, and images on demand.

Shape letters: N images of the split, A of the data set, B of a batch, C = 3 channels, H height, W width,
S x S pixels.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from selfcon.data.augment import Augmentation, augment
from selfcon.data.statistics import Channels, channel_statistics

_PIXELS_AT_ONCE = 2**24  # 200 MB as floats


@dataclass(frozen=True, eq=False)
class Split(ABC):
    """Split of a data set: `labels_N` int64, and images computed for each batch.

    Batches are given by indices in the split, int64 on the CPU.
    """

    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    @abstractmethod
    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch for evaluation: without augmentation, uint8 (B, C, H, W)."""

    @abstractmethod
    def views(
        self, batches: Sequence[Tensor], augmentation: Augmentation, *, device: torch.device
    ) -> Iterator[list[Tensor]]:
        """Yield the augmented views of each batch's images, in [0, 1], (B, C, H, W) each, on `device`."""

    @abstractmethod
    def channel_statistics(self) -> tuple[Channels, Channels]:
        """Return the mean and the standard deviation by channel for normalisation."""


@dataclass(frozen=True, eq=False)
class MemorySplit(Split):
    """Split with the images `members_N` of uint8 images in memory, which all splits share.

    If their size is not `image_size`, images are resized for each batch, with the same pixels as if resized
    before.
    """

    images_ACHW: Tensor
    members_N: Tensor
    image_size: int

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch."""
        for indices_B in batches:
            yield resize(self.images_ACHW[self.members_N[indices_B]], self.image_size)

    def views(
        self, batches: Sequence[Tensor], augmentation: Augmentation, *, device: torch.device
    ) -> Iterator[list[Tensor]]:
        """Yield the views of each batch, augmented on `device`."""
        for indices_B, plain_BCHW in zip(batches, self.plain(batches), strict=True):
            images_BCHW = plain_BCHW.to(device)
            views = range(augmentation.num_views)
            yield [augment(images_BCHW, indices_B, augmentation, view=view) for view in views]

    def channel_statistics(self) -> tuple[Channels, Channels]:
        """Return the statistics of the pixels of the split."""
        batches = torch.arange(len(self)).split(_images_at_once(self.image_size))
        return channel_statistics(self.plain(batches))


def resize(images_NCHW: Tensor, image_size: int) -> Tensor:
    """Return uint8 images as squares of `image_size` pixels: bilinear, antialiased if they shrink."""
    height, width = images_NCHW.shape[2:]
    if (height, width) == (image_size, image_size):
        return images_NCHW
    resized_NCSS = images_NCHW.new_empty(len(images_NCHW), 3, image_size, image_size)
    at_once = _images_at_once(max(height, width, image_size))
    for some, result in zip(images_NCHW.split(at_once), resized_NCSS.split(at_once), strict=True):
        floats = functional.interpolate(
            some.to(torch.float32), size=(image_size, image_size), mode="bilinear", antialias=True
        )
        result.copy_(floats.round_().clamp_(0, 255))
    return resized_NCSS


def _images_at_once(side: int) -> int:
    return max(1, _PIXELS_AT_ONCE // side**2)
