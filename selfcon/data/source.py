"""Original images of a data set, before splitting and resizing.

Shape letters: N images of the data set, C = 3 channels, H height, W width, S x S pixels.
"""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from selfcon.data.decode import decode_image, pixels
from selfcon.data.disk_split import DiskSplit
from selfcon.data.files import KEY, ImageFiles
from selfcon.data.prefetch import in_threads
from selfcon.data.split import MemorySplit, Split, resize
from selfcon.errors import ConfigError

Part = Literal["train", "validation", "test"]

# Resized images, and folders of images of one size, are held in memory up to this size: uint8, shared by all
# splits, in every worker.
MEMORY_BYTES = 2**31

_IMAGES_AT_ONCE = 4096


@dataclass(frozen=True, kw_only=True, eq=False)
class Source(ABC):
    """Images of a data set with their classes.

    `given` has the indices of the images of each predefined split. `image_size` is the default side of the
    square images.
    """

    labels_N: Tensor
    class_names: tuple[str, ...]
    given: Mapping[Part, range]
    image_size: int

    @abstractmethod
    def identities(self) -> Iterator[str]:
        """Yield a line for each image that identifies its content, its class and its predefined split."""

    @abstractmethod
    def splits(self, members: Mapping[Part, Tensor], *, image_size: int) -> dict[Part, Split]:
        """Return the splits with these members and `image_size`."""

    def splits_in_memory(
        self, images_NCHW: Tensor, members: Mapping[Part, Tensor], *, image_size: int
    ) -> dict[Part, Split]:
        """Return splits in memory: resized images if they fit, else the original ones."""
        if _fits(len(images_NCHW), image_size):
            images_NCHW = resize(images_NCHW, image_size)
        return {
            part: MemorySplit(self.labels_N[m], images_NCHW, m, image_size) for part, m in members.items()
        }


@dataclass(frozen=True, kw_only=True, eq=False)
class ArraySource(Source):
    """Data set in memory: `images_NCHW` uint8."""

    images_NCHW: Tensor

    def identities(self) -> Iterator[str]:
        """Yield class and SHA-256 of each image, after its split unless that is the training split."""
        for part, numbers in self.given.items():
            prefix = "" if part == "train" else f"{part} "
            for number in numbers:
                content = self.images_NCHW[number].contiguous().numpy().tobytes()
                yield f"{prefix}{int(self.labels_N[number])} {hashlib.sha256(content).hexdigest()}"

    def splits(self, members: Mapping[Part, Tensor], *, image_size: int) -> dict[Part, Split]:
        """Return splits in memory."""
        return self.splits_in_memory(self.images_NCHW, members, image_size=image_size)


@dataclass(frozen=True, kw_only=True, eq=False)
class FileSource(Source):
    """Data set of image files.

    `common_size` is the side of the images if all are squares of the same size, else None. A `small` data set
    is held in memory at any `image_size`, others only at the size of the files, up to `MEMORY_BYTES`.
    """

    files: ImageFiles
    common_size: int | None = None
    small: bool = False

    def identities(self) -> Iterator[str]:
        """Yield name under the root, size in bytes and class of each image."""
        for name, size, label in zip(self.files.names, self.files.sizes, self.labels_N.tolist(), strict=True):
            yield f"{name} {size} {label}"

    def splits(self, members: Mapping[Part, Tensor], *, image_size: int) -> dict[Part, Split]:
        """Return splits in memory if the images fit, else on disk."""
        size = self.common_size
        if size is not None and (self.small or (size == image_size and _fits(len(self.files), size))):
            return self.splits_in_memory(_read(self.files, size), members, image_size=image_size)
        return {part: DiskSplit(self.labels_N[m], self.files, m, image_size) for part, m in members.items()}


def _fits(num_images: int, image_size: int) -> bool:
    return num_images * 3 * image_size**2 <= MEMORY_BYTES


def _read(files: ImageFiles, size: int) -> Tensor:
    """All images, decoded, (N, C, S, S)."""

    def read(number: int) -> Tensor:
        path = files.path(number)
        image = decode_image(path)
        if image.size != (size, size):
            got = f"{path} of {image.width} x {image.height}"
            raise ConfigError(KEY, f"images of {size} x {size} pixels", got)
        return pixels(image)

    images_NCSS = torch.empty(len(files), 3, size, size, dtype=torch.uint8)
    pieces = images_NCSS.split(_IMAGES_AT_ONCE)
    numbers = (chunk.tolist() for chunk in torch.arange(len(files)).split(_IMAGES_AT_ONCE))
    for piece, decoded in zip(pieces, in_threads(read, numbers), strict=True):
        torch.stack(decoded, out=piece)
    return images_NCSS
