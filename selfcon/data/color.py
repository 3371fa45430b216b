"""Colour adjustments of batches of float images in [0, 1], with a separate amount for each image.

The definitions are torchvision's (`transforms.functional`, for float images), so that recipes carry over.

Shape letters: N images, C = 3 channels, H height, W width.
"""

import torch
from torch import Tensor

GREY_WEIGHTS = (0.2989, 0.587, 0.114)  # of red, green and blue: torchvision's rounding of ITU-R BT.601


def grey(images_NCHW: Tensor) -> Tensor:
    """Return the luma of the images, (N, 1, H, W)."""
    red, green, blue = (images_NCHW[:, channel : channel + 1] for channel in range(3))
    return GREY_WEIGHTS[0] * red + GREY_WEIGHTS[1] * green + GREY_WEIGHTS[2] * blue


def adjust_brightness(images_NCHW: Tensor, factors_N: Tensor) -> Tensor:
    """Return factor x image, clamped to [0, 1]."""
    return (_by_image(factors_N, images_NCHW) * images_NCHW).clamp_(0, 1)


def adjust_contrast(images_NCHW: Tensor, factors_N: Tensor) -> Tensor:
    """Return factor x image + (1 - factor) x the mean of the image's luma, clamped to [0, 1]."""
    return _blend(images_NCHW, grey(images_NCHW).mean(dim=(2, 3), keepdim=True), factors_N)


def adjust_saturation(images_NCHW: Tensor, factors_N: Tensor) -> Tensor:
    """Return factor x image + (1 - factor) x its luma, clamped to [0, 1]."""
    return _blend(images_NCHW, grey(images_NCHW), factors_N)


def adjust_hue(images_NCHW: Tensor, turns_N: Tensor) -> Tensor:
    """Return the images with the hue of each pixel rotated by `turns_N`, in turns of the colour circle.

    This equals a conversion to HSV, hue + turns modulo 1, and the conversion back, in one step: a channel is
    low + span x p, where low is the minimum of the three channels and span the distance to their maximum
    (both unchanged by a rotation), and p in [0, 1] is a trapezoid function of the hue.
    """
    red, green, blue = images_NCHW.unbind(dim=1)
    high, low = images_NCHW.amax(dim=1), images_NCHW.amin(dim=1)
    span = high - low
    divisor = torch.where(span > 0, span, 1)  # the hue of a grey pixel is arbitrary: its span is 0
    hue = torch.where(
        high == red,
        (green - blue) / divisor,
        torch.where(high == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    hue = hue + 6 * turns_N.to(hue)[:, None, None]  # in sixths of a turn: red 0, green 2, blue 4
    hue = hue - 6 * (hue / 6).floor()
    shares = ((hue - 3).abs() - 1, 2 - (hue - 2).abs(), 2 - (hue - 4).abs())
    return torch.stack([low + span * share.clamp_(0, 1) for share in shares], dim=1)


def _blend(images_NCHW: Tensor, others: Tensor, factors_N: Tensor) -> Tensor:
    factors = _by_image(factors_N, images_NCHW)
    return (factors * images_NCHW + (1 - factors) * others).clamp_(0, 1)


def _by_image(factors_N: Tensor, images_NCHW: Tensor) -> Tensor:
    return factors_N.to(images_NCHW)[:, None, None, None]
