"""One part of a data set: its labels, and its images on demand.

Shape letters: N images of the part, A of the whole data set, B of a batch, C = 3 channels, H height, W width.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selfcon.data.augment import Augmentation, augment
from selfcon.data.statistics import Channels, channel_statistics

_IMAGES_AT_ONCE = 4096


@dataclass(frozen=True, eq=False)
class Split(ABC):
    """One part of a data set: `labels_N` int64, and images that are made when a batch needs them.

    A batch is asked for by its indices in the part, int64 on the CPU.
    """

    labels_N: Tensor

    def __len__(self) -> int:
        return len(self.labels_N)

    @abstractmethod
    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch as evaluation sees them: not augmented, uint8 (B, C, H, W)."""

    @abstractmethod
    def views(
        self, batches: Sequence[Tensor], augmentation: Augmentation, *, device: torch.device
    ) -> Iterator[list[Tensor]]:
        """Yield the augmented views of each batch's images, in [0, 1], (B, C, H, W) each, on `device`."""

    @abstractmethod
    def channel_statistics(self) -> tuple[Channels, Channels]:
        """Return the mean and the standard deviation, by channel, that the images are normalised with."""


@dataclass(frozen=True, eq=False)
class MemorySplit(Split):
    """A part of uint8 images that are held in memory once for all parts; `members_N` are this one's."""

    images_ACHW: Tensor
    members_N: Tensor

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch."""
        for indices_B in batches:
            yield self.images_ACHW[self.members_N[indices_B]]

    def views(
        self, batches: Sequence[Tensor], augmentation: Augmentation, *, device: torch.device
    ) -> Iterator[list[Tensor]]:
        """Yield the views of each batch, augmented as a whole on `device`."""
        for indices_B in batches:
            images_BCHW = self.images_ACHW[self.members_N[indices_B]].to(device)
            views = range(augmentation.num_views)
            yield [augment(images_BCHW, indices_B, augmentation, view=view) for view in views]

    def channel_statistics(self) -> tuple[Channels, Channels]:
        """Return those of the part's own pixels."""
        return channel_statistics(self.plain(torch.arange(len(self)).split(_IMAGES_AT_ONCE)))
