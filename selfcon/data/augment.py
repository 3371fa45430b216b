"""Augmentation of batches, with separate random draws for each image.

The distributions are torchvision's (RandAugment, RandomResizedCrop, RandomHorizontalFlip, ColorJitter,
RandomGrayscale), with the settings of the authors' recipe (github.com/raymin0223/self-contrastive-learning,
commit 5e7c2c5). The result depends only on (seed, epoch, index, view), not on the batch or the rank.

Random parameters are computed on the CPU in float64, and pixels on the device of the images, so that all
devices use the same crops and there is no synchronisation.

Shape letters: N images, C = 3 channels, H height, W width, T tries, K adjustments or operations.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from selfcon.data.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grey
from selfcon.data.crop import NUM_TRIES, crop_boxes, resize_boxes
from selfcon.data.distort import OPERATIONS
from selfcon.data.draws import Stream, uniform
from selfcon.errors import ConfigError, nearest

NUM_OPERATIONS = 2
FLIP_PROBABILITY = 0.5
JITTER_PROBABILITY = 0.8
GREY_PROBABILITY = 0.2

# In torchvision's order: the neutral amount, and the maximum deviation of the random one.
ADJUSTMENTS: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float, float], ...] = (
    (adjust_brightness, 1.0, 0.4),
    (adjust_contrast, 1.0, 0.4),
    (adjust_saturation, 1.0, 0.4),
    (adjust_hue, 0.0, 0.1),
)

# (stream, count) -> the random draws of a batch, float64 of shape (N, count), on the CPU.
Draw = Callable[[Stream, int], Tensor]
Step = Callable[[Tensor, Draw], Tensor]


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Augmentation recipe: operations on bytes, a random crop with a flip, operations on colours."""

    before: tuple[Step, ...] = ()
    crops: bool = True
    after: tuple[Step, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Augmentation in one epoch: `num_views` of each image, by the recipe `kind`, of `dtype`.

    "none" only scales; "weak" is a random resized crop and a flip; "standard" adds colour jitter and grey;
    "randaugment" is the same after two operations of RandAugment.
    """

    kind: str
    seed: int
    epoch: int
    num_views: int
    dtype: torch.dtype

    def draw(self, indices_N: Tensor, *, view: int) -> Draw:
        """Return the random draws for a view of the samples `indices_N`, computed on the CPU."""
        indices_N = indices_N.cpu()

        def draw(stream: Stream, count: int) -> Tensor:
            return uniform(self.seed, self.epoch, indices_N, view=view, stream=stream, count=count)

        return draw


def augment(
    images_NCHW: Tensor, indices_N: Tensor, augmentation: Augmentation, *, view: int, cropped: bool = False
) -> Tensor:
    """Return one view of uint8 images, in [0, 1], (N, C, H, W), on their device.

    `indices_N` are the indices of the images in their split. `cropped` images get only the flip and the
    following operations.

    Raises `ConfigError` for an unknown kind, `ValueError` for images not uint8 or not one for each index.
    """
    recipe = recipe_of(augmentation.kind)
    if images_NCHW.dtype != torch.uint8 or len(images_NCHW) != len(indices_N):
        got = f"{len(images_NCHW)} of {images_NCHW.dtype} for {len(indices_N)} indices"
        raise ValueError(f"expected uint8 images, one for each index, got {got}")
    draw = augmentation.draw(indices_N, view=view)
    for step in () if cropped else recipe.before:
        images_NCHW = step(images_NCHW, draw)
    if recipe.crops and cropped:
        images_NCHW = flip(images_NCHW, draw)
    images_NCHW = images_NCHW.to(augmentation.dtype).div_(255)
    if recipe.crops and not cropped:
        images_NCHW = crop_and_flip(images_NCHW, draw)
    for step in recipe.after:
        images_NCHW = step(images_NCHW, draw)
    # Interpolation weights may sum to slightly more than 1.
    return images_NCHW.clamp_(0, 1)


def recipe_of(kind: str) -> Recipe:
    """Return the recipe with this name. Raises `ConfigError` for an unknown one."""
    if kind not in RECIPES:
        hint = nearest(kind, RECIPES)
        raise ConfigError("data.augmentation", f"one of {', '.join(RECIPES)}", repr(kind), hint)
    return RECIPES[kind]


def normalise(
    images_NCHW: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Return (images - mean) / std by channel, for float images in [0, 1]."""
    mean_C, std_C = (images_NCHW.new_tensor(values) for values in (mean, std))
    return (images_NCHW - mean_C[:, None, None]) / std_C[:, None, None]


def distort(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return uint8 images after `NUM_OPERATIONS` random operations of RandAugment for each image."""
    number_NK = (draw(Stream.DISTORTION, NUM_OPERATIONS) * len(OPERATIONS)).long()
    images_NCHW = images_NCHW.clone()
    for number_N in number_NK.unbind(dim=1):
        for number in number_N.unique().tolist():
            operation, amount = OPERATIONS[number]
            chosen = (number_N == number).nonzero()[:, 0].to(images_NCHW.device)
            images_NCHW[chosen] = operation(images_NCHW[chosen], amount)
    return images_NCHW


def draw_boxes(draw: Draw, *, height: int, width: int) -> Tensor:
    """Return a random box (top, left, height, width) for each image of that size, int64 of shape (N, 4)."""
    shape_NT2 = draw(Stream.CROP_SHAPE, 2 * NUM_TRIES).unflatten(1, (NUM_TRIES, 2))
    return crop_boxes(shape_NT2, draw(Stream.CROP_PLACE, 2), height=height, width=width)


def crop_and_flip(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return a random crop of each image, resized to the size of the image, half of them flipped."""
    height, width = images_NCHW.shape[2:]
    return resize_boxes(images_NCHW, draw_boxes(draw, height=height, width=width), _mirrored(draw))


def flip(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return the images, half of them flipped: the same ones as in `crop_and_flip`."""
    mirrored = _mirrored(draw).nonzero()[:, 0].to(images_NCHW.device)
    return images_NCHW.index_copy(0, mirrored, images_NCHW[mirrored].flip(3))


def jitter_colors(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return the images, 80 % of them after all colour adjustments in random order."""
    order_NK = draw(Stream.JITTER_ORDER, len(ADJUSTMENTS)).argsort(dim=1)
    signed_NK = 2 * draw(Stream.JITTER_FACTORS, len(ADJUSTMENTS)) - 1
    jittered_N1 = draw(Stream.JITTER, 1) < JITTER_PROBABILITY
    images_NCHW = images_NCHW.clone()
    for place_N in order_NK.where(jittered_N1, -1).unbind(dim=1):
        for number, (adjust, neutral, reach) in enumerate(ADJUSTMENTS):
            chosen = (place_N == number).nonzero()[:, 0]
            amounts = neutral + reach * signed_NK[chosen, number]
            chosen = chosen.to(images_NCHW.device)
            images_NCHW[chosen] = adjust(images_NCHW[chosen], amounts)
    return images_NCHW


def drop_colors(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return the images, 20 % of them converted to grey."""
    dropped_N1 = (draw(Stream.GREY, 1) < GREY_PROBABILITY).to(images_NCHW.device)
    return torch.where(dropped_N1[:, :, None, None], grey(images_NCHW), images_NCHW)


def _mirrored(draw: Draw) -> Tensor:
    return draw(Stream.FLIP, 1)[:, 0] < FLIP_PROBABILITY


RECIPES: Mapping[str, Recipe] = {
    "none": Recipe(crops=False),
    "weak": Recipe(),
    "standard": Recipe(after=(jitter_colors, drop_colors)),
    "randaugment": Recipe(before=(distort,), after=(jitter_colors, drop_colors)),
}
