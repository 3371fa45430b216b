"""Operations of RandAugment on batches of uint8 images, at a fixed magnitude.

RandAugment is Cubuk et al. 2020 (arXiv:1909.13719). The operations are those of torchvision's
`transforms.RandAugment`, with nearest-neighbour interpolation and black fill, at magnitude 9 of 0 to 30. Each
takes images and an amount; operations without an amount ignore it.

Shape letters: N images, C = 3 channels, H height, W width, P = H x W pixels, L = 256 levels.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor

from selfcon.data.color import GREY_WEIGHTS

STRENGTH = 9 / 30
SHEAR = 0.3 * STRENGTH  # horizontal pixels for each vertical pixel
ANGLE = 30 * STRENGTH  # degrees
SHIFT = (150 * 9, 331 * 30)  # of the side, as a ratio of integers, so that rounding down is exact
CHANGE = 0.9 * STRENGTH  # of brightness, colour, contrast and sharpness
POSTERIZE_BITS = 8 - round(4 * STRENGTH)
SOLARIZE_FROM = 255 * (1 - STRENGTH)

Operation = Callable[[Tensor, float], Tensor]


def keep(images_NCHW: Tensor, _amount: float) -> Tensor:
    """Return the images."""
    return images_NCHW


def shear_x(images_NCHW: Tensor, amount: float) -> Tensor:
    """Return the images with each row moved left by `amount` x its distance from the upper edge."""
    y_H1, x_1W = _places(images_NCHW)
    return _taken_from(images_NCHW, y_H1, x_1W + amount * (y_H1 + 0.5))


def shear_y(images_NCHW: Tensor, amount: float) -> Tensor:
    """Return the images with each column moved up by `amount` x its distance from the left edge."""
    y_H1, x_1W = _places(images_NCHW)
    return _taken_from(images_NCHW, y_H1 + amount * (x_1W + 0.5), x_1W)


def shift_x(images_NCHW: Tensor, sign: float) -> Tensor:
    """Return the images moved by whole pixels to the right, or with a negative sign to the left."""
    y_H1, x_1W = _places(images_NCHW)
    return _taken_from(images_NCHW, y_H1, x_1W - sign * (images_NCHW.shape[3] * SHIFT[0] // SHIFT[1]))


def shift_y(images_NCHW: Tensor, sign: float) -> Tensor:
    """Return the images moved by whole pixels down, or with a negative sign up."""
    y_H1, x_1W = _places(images_NCHW)
    return _taken_from(images_NCHW, y_H1 - sign * (images_NCHW.shape[2] * SHIFT[0] // SHIFT[1]), x_1W)


def rotate(images_NCHW: Tensor, degrees: float) -> Tensor:
    """Return the images rotated counter-clockwise about their centres."""
    y_H1, x_1W = _places(images_NCHW)
    middle_y, middle_x = ((size - 1) / 2 for size in images_NCHW.shape[2:])
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    down_H1, right_1W = y_H1 - middle_y, x_1W - middle_x
    return _taken_from(
        images_NCHW,
        middle_y + sine * right_1W + cosine * down_H1,
        middle_x + cosine * right_1W - sine * down_H1,
    )


def change_brightness(images_NCHW: Tensor, change: float) -> Tensor:
    """Return the images with each level multiplied by 1 + change."""
    return _levels(images_NCHW * (1 + change))


def change_color(images_NCHW: Tensor, change: float) -> Tensor:
    """Return the images with each level's distance from the pixel's grey multiplied by 1 + change."""
    return _away_from(_grey_levels(images_NCHW), images_NCHW, change)


def change_contrast(images_NCHW: Tensor, change: float) -> Tensor:
    """Return the images with each level's distance from the image's mean grey multiplied by 1 + change."""
    mean_N111 = _grey_levels(images_NCHW).mean(dim=(1, 2, 3), keepdim=True)
    return _away_from(mean_N111, images_NCHW, change)


def change_sharpness(images_NCHW: Tensor, change: float) -> Tensor:
    """Return the images with each level's distance from its surroundings multiplied by 1 + change.

    Those are the mean of the 3 x 3 pixels around it, with weight 5 for the centre. Border pixels, and images
    with fewer than three pixels per side, are unchanged.
    """
    if min(images_NCHW.shape[2:]) < 3:
        return images_NCHW
    counts_NCHW = images_NCHW.to(torch.int16)  # integers: the same on every device
    rows = counts_NCHW[:, :, :-2] + counts_NCHW[:, :, 1:-1] + counts_NCHW[:, :, 2:]
    sums = rows[..., :-2] + rows[..., 1:-1] + rows[..., 2:] + 4 * counts_NCHW[:, :, 1:-1, 1:-1]
    sharp_NCHW = images_NCHW.to(torch.float32)
    inside = sharp_NCHW[:, :, 1:-1, 1:-1]
    inside.add_((sums / 13).round_() - inside, alpha=-change)
    return _levels(sharp_NCHW)


def posterize(images_NCHW: Tensor, _amount: float) -> Tensor:
    """Return the images with only the upper bits of each level."""
    return images_NCHW.bitwise_and(256 - 2 ** (8 - POSTERIZE_BITS))


def solarize(images_NCHW: Tensor, _amount: float) -> Tensor:
    """Return the images with the bright levels inverted."""
    return torch.where(images_NCHW >= SOLARIZE_FROM, 255 - images_NCHW, images_NCHW)


def stretch_contrast(images_NCHW: Tensor, _amount: float) -> Tensor:
    """Return the images with each channel's darkest level at 0 and its brightest at 255.

    A channel with a single level is unchanged.
    """
    ends = torch.aminmax(images_NCHW.flatten(2), dim=2)
    low_NC11, high_NC11 = (values[:, :, None, None].to(torch.float32) for values in ends)
    stretched_NCHW = (images_NCHW - low_NC11) / ((high_NC11 - low_NC11) * (1 / 255))
    return torch.where(high_NC11 > low_NC11, _levels(stretched_NCHW), images_NCHW)


def equalize(images_NCHW: Tensor, _amount: float) -> Tensor:
    """Return the images with the histogram of each channel equalised.

    A level becomes the number of darker pixels, divided by 1/255 of all pixels except the brightest, rounded.
    Channels with less than one pixel per step are unchanged.
    """
    levels_NCP = images_NCHW.flatten(2).long()
    counts_NCL = levels_NCP.new_zeros(*levels_NCP.shape[:2], 256)
    counts_NCL.scatter_add_(2, levels_NCP, torch.ones_like(levels_NCP))
    darker_NCL = counts_NCL.cumsum(dim=2) - counts_NCL
    step_NC1 = darker_NCL.gather(2, levels_NCP.amax(dim=2, keepdim=True)) // 255
    spread_NCL = (darker_NCL + step_NC1 // 2) // step_NC1.clamp(min=1)
    equalized_NCP = spread_NCL.clamp_(max=255).gather(2, levels_NCP)
    return torch.where(step_NC1 > 0, equalized_NCP, levels_NCP).to(torch.uint8).view_as(images_NCHW)


# One of these is drawn with equal probability. Operations without a sign are listed twice, so that all
# fourteen operations are equally likely, and both signs of an operation too.
OPERATIONS: tuple[tuple[Operation, float], ...] = tuple(
    (operation, sign * amount)
    for operation, amount in (
        (keep, 0.0), (shear_x, SHEAR), (shear_y, SHEAR), (shift_x, 1.0), (shift_y, 1.0), (rotate, ANGLE),
        (change_brightness, CHANGE), (change_color, CHANGE), (change_contrast, CHANGE),
        (change_sharpness, CHANGE), (posterize, 0.0), (solarize, 0.0), (stretch_contrast, 0.0),
        (equalize, 0.0),
    )
    for sign in (1, -1)
)  # fmt: skip


def _places(images_NCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Row and column of each pixel, (H, 1) and (1, W), on the CPU, so that rounding is the same on every
    device."""
    height, width = images_NCHW.shape[2:]
    rows_H, columns_W = (torch.arange(size, dtype=torch.float64) for size in (height, width))
    return rows_H[:, None], columns_W[None]


def _taken_from(images_NCHW: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """The images sampled at the given coordinates: nearest neighbour, black outside."""
    height, width = images_NCHW.shape[2:]
    y, x = y.round().long(), x.round().long()
    inside_HW = (y >= 0) & (y < height) & (x >= 0) & (x < width)
    source_P = torch.where(inside_HW, y * width + x, 0).flatten().to(images_NCHW.device)
    # On a CPU, index_select along the last dimension is 20 times slower.
    taken_NCP = images_NCHW.flatten(2).gather(2, source_P.expand(*images_NCHW.shape[:2], -1))
    outside_HW = inside_HW.logical_not().to(images_NCHW.device)
    return taken_NCP.view_as(images_NCHW).masked_fill_(outside_HW, 0)


def _grey_levels(images_NCHW: Tensor) -> Tensor:
    """The luma, rounded down to a level, float32 of shape (N, 1, H, W)."""
    red, green, blue = images_NCHW.to(torch.float32).chunk(3, dim=1)
    luma = (red * GREY_WEIGHTS[0]).add_(green, alpha=GREY_WEIGHTS[1]).add_(blue, alpha=GREY_WEIGHTS[2])
    return luma.floor_()


def _away_from(others: Tensor, images_NCHW: Tensor, change: float) -> Tensor:
    return _levels((images_NCHW * (1 + change)).add_(others, alpha=-change))


def _levels(values_NCHW: Tensor) -> Tensor:
    """Clamp to [0, 255] and round down."""
    return values_NCHW.clamp(0, 255).to(torch.uint8)
