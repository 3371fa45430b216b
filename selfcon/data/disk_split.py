"""Split that stays on disk: images are decoded, cropped and resized for each batch.

Shape letters: N images of the split, B of a batch, V views, C = 3 channels, S x S pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from PIL import Image
from torch import Tensor

from selfcon.data.augment import Augmentation, Draw, Recipe, augment, draw_boxes, recipe_of
from selfcon.data.decode import decode_image, image_of, pixels, resized_box, resized_center
from selfcon.data.draws import Stream
from selfcon.data.files import ImageFiles
from selfcon.data.prefetch import in_threads
from selfcon.data.split import Split
from selfcon.data.statistics import Channels

# The usual statistics of ImageNet's training images, in torchvision's reference training and the authors'.
IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True, eq=False)
class DiskSplit(Split):
    """Split with the images `members_N` of `files`, each cropped to a square of `image_size` pixels.

    Operations up to the crop run in threads on the original images, later ones on batches.

    A damaged image raises `ConfigError` only on the rank that has it in its share. The other ranks then wait
    for that rank, so the caller must end all ranks together.
    """

    files: ImageFiles
    members_N: Tensor
    image_size: int

    def plain(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the centre crops of each batch."""

        def center(index: int) -> Tensor:
            return pixels(resized_center(self._decoded(index), self.image_size))

        for centers in in_threads(center, _indices(batches)):
            yield torch.stack(centers) if centers else self._nothing()

    def views(
        self, batches: Sequence[Tensor], augmentation: Augmentation, *, device: torch.device
    ) -> Iterator[list[Tensor]]:
        """Yield the views of each batch: random crops of the images, augmented further on `device`."""

        recipe = recipe_of(augmentation.kind)

        def cut(item: tuple[int, list[Draw]]) -> Tensor:
            index, draws = item
            image = self._decoded(index)
            return torch.stack([self._cut(image, recipe, draw) for draw in draws])

        items = (_with_draws(indices_B, augmentation) for indices_B in batches)
        for indices_B, cuts in zip(batches, in_threads(cut, items), strict=True):
            cuts_VBCSS = torch.stack(cuts, dim=1).to(device)
            yield [
                augment(cuts_BCSS, indices_B, augmentation, view=view, cropped=True)
                for view, cuts_BCSS in enumerate(cuts_VBCSS)
            ]

    def channel_statistics(self) -> tuple[Channels, Channels]:
        """Return the statistics of ImageNet, to avoid reading a large data set twice."""
        return IMAGENET_MEAN, IMAGENET_STD

    def _decoded(self, index: int) -> Image.Image:
        return decode_image(self.files.path(int(self.members_N[index])))

    def _cut(self, image: Image.Image, recipe: Recipe, draw: Draw) -> Tensor:
        if not recipe.crops:
            return pixels(resized_center(image, self.image_size))
        if recipe.before:
            pixels_1CHW = pixels(image)[None]
            for step in recipe.before:
                pixels_1CHW = step(pixels_1CHW, draw)
            image = image_of(pixels_1CHW[0])
        (box,) = draw_boxes(draw, height=image.height, width=image.width).tolist()
        return pixels(resized_box(image, box, self.image_size))

    def _nothing(self) -> Tensor:
        return torch.empty(0, 3, self.image_size, self.image_size, dtype=torch.uint8)


def _with_draws(indices_B: Tensor, augmentation: Augmentation) -> list[tuple[int, list[Draw]]]:
    """Each index with the random draws of its views, computed for the entire batch."""
    draws = [cache(augmentation.draw(indices_B, view=view)) for view in range(augmentation.num_views)]
    rows = enumerate(indices_B.tolist())
    return [(index, [partial(_draw_row, draw, row) for draw in draws]) for row, index in rows]


def _draw_row(draw: Draw, row: int, stream: Stream, count: int) -> Tensor:
    return draw(stream, count)[row : row + 1]


def _indices(batches: Sequence[Tensor]) -> Iterator[list[int]]:
    return (indices_B.tolist() for indices_B in batches)
