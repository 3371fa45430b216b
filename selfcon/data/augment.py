"""Augmentation of whole batches, every image by draws of its own.

The distributions are torchvision's (RandomResizedCrop, RandomHorizontalFlip, ColorJitter, RandomGrayscale),
with the settings of the authors' recipe (github.com/raymin0223/self-contrastive-learning, commit 5e7c2c5).
What becomes of an image depends on (seed, epoch, index, view) and on nothing else, neither batch nor rank.

What is drawn is decided on the CPU, in float64, and the pixels are computed where the images are: so a GPU
takes the CPU's crops, and is never waited for.

Shape letters: N images, C = 3 channels, H height, W width, T tries, K adjustments.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from selfcon.data.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grey
from selfcon.data.crop import NUM_TRIES, crop_boxes, resize_boxes
from selfcon.data.draws import Stream, uniform
from selfcon.errors import ConfigError, nearest

FLIP_PROBABILITY = 0.5
JITTER_PROBABILITY = 0.8
GREY_PROBABILITY = 0.2

# In torchvision's order: the amount that changes nothing, and how far from it the drawn one may lie.
ADJUSTMENTS: tuple[tuple[Callable[[Tensor, Tensor], Tensor], float, float], ...] = (
    (adjust_brightness, 1.0, 0.4),
    (adjust_contrast, 1.0, 0.4),
    (adjust_saturation, 1.0, 0.4),
    (adjust_hue, 0.0, 0.1),
)

# (stream, count) -> the batch's draws, float64 of shape (N, count), on the CPU.
Draw = Callable[[Stream, int], Tensor]


def augment(
    images_NCHW: Tensor,
    indices_N: Tensor,
    *,
    epoch: int,
    seed: int,
    view: int,
    kind: str,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Return augmented images in [0, 1], (N, C, H, W) of `dtype`, from uint8 ones, on their device.

    `indices_N` names the images in their data set. `kind`: "none" only scales; "weak" is a random resized
    crop and a flip; "standard" adds colour jitter and grey.

    Raises `ConfigError` for another kind, `ValueError` for images that are not uint8 or not one an index.
    """
    if kind not in STEPS:
        hint = nearest(kind, STEPS)
        raise ConfigError("data.augmentation", f"one of {', '.join(STEPS)}", repr(kind), hint)
    if images_NCHW.dtype != torch.uint8 or len(images_NCHW) != len(indices_N):
        got = f"{len(images_NCHW)} of {images_NCHW.dtype} for {len(indices_N)} indices"
        raise ValueError(f"expected uint8 images, one for each index, got {got}")
    indices_N = indices_N.cpu()

    def draw(stream: Stream, count: int) -> Tensor:
        return uniform(seed, epoch, indices_N, view=view, stream=stream, count=count)

    images_NCHW = images_NCHW.to(dtype).div_(255)
    for step in STEPS[kind]:
        images_NCHW = step(images_NCHW, draw)
    # The weights of an interpolation may sum to a rounding error more than 1.
    return images_NCHW.clamp_(0, 1)


def normalise(
    images_NCHW: Tensor, *, mean: tuple[float, float, float], std: tuple[float, float, float]
) -> Tensor:
    """Return (images - mean) / std by channel, for float images in [0, 1]."""
    mean_C, std_C = (images_NCHW.new_tensor(values) for values in (mean, std))
    return (images_NCHW - mean_C[:, None, None]) / std_C[:, None, None]


def crop_and_flip(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return a random box of each image at the image's size, mirrored for half of them."""
    height, width = images_NCHW.shape[2:]
    shape_NT2 = draw(Stream.CROP_SHAPE, 2 * NUM_TRIES).unflatten(1, (NUM_TRIES, 2))
    boxes_N4 = crop_boxes(shape_NT2, draw(Stream.CROP_PLACE, 2), height=height, width=width)
    return resize_boxes(images_NCHW, boxes_N4, draw(Stream.FLIP, 1)[:, 0] < FLIP_PROBABILITY)


def jitter_colors(images_NCHW: Tensor, draw: Draw) -> Tensor:
    """Return the images, four in five of them after every adjustment once, in an order of their own."""
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
    """Return the images, one in five of them grey."""
    dropped_N1 = (draw(Stream.GREY, 1) < GREY_PROBABILITY).to(images_NCHW.device)
    return torch.where(dropped_N1[:, :, None, None], grey(images_NCHW), images_NCHW)


STEPS: Mapping[str, tuple[Callable[[Tensor, Draw], Tensor], ...]] = {
    "none": (),
    "weak": (crop_and_flip,),
    "standard": (crop_and_flip, jitter_colors, drop_colors),
}
