"""Random crops of batches, resized to the size of the images.

Shape letters: N images, C channels, H height, W width, T tries.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

SCALE = (0.2, 1.0)  # the share of the image's area
RATIO = (3 / 4, 4 / 3)  # width : height
NUM_TRIES = 10


def crop_boxes(shape_NT2: Tensor, place_N2: Tensor, *, height: int, width: int) -> Tensor:
    """Return random boxes (top, left, height, width) in whole pixels, int64 of shape (N, 4).

    The distribution is that of torchvision's RandomResizedCrop: each try has an area (uniform in `SCALE`) and
    an aspect ratio (log-uniform in `RATIO`); the first one whose rounded sides fit the image is used at a
    uniform position. If none fits, it is the largest central box within the ratios.

    The arguments are uniform in [0, 1): `shape_NT2` for area and ratio of each try, `place_N2` for the
    position.
    """
    areas_NT = height * width * (SCALE[0] + (SCALE[1] - SCALE[0]) * shape_NT2[..., 0])
    low, high = math.log(RATIO[0]), math.log(RATIO[1])
    ratios_NT = torch.exp(low + (high - low) * shape_NT2[..., 1])
    sides_NT2 = torch.stack((areas_NT / ratios_NT, areas_NT * ratios_NT), dim=2).sqrt().round().long()
    image_2 = torch.tensor((height, width), device=sides_NT2.device)
    fits_NT = ((sides_NT2 > 0) & (sides_NT2 <= image_2)).all(dim=2)
    first_N = fits_NT.to(torch.uint8).argmax(dim=1)
    first_sides_N2 = sides_NT2[torch.arange(len(first_N), device=first_N.device), first_N]
    # One side is that of the image; the other is limited by the ratios.
    central_2 = image_2.new_tensor(
        (min(height, round(width / RATIO[0])), min(width, round(height * RATIO[1])))
    )
    fits_N1 = fits_NT.any(dim=1, keepdim=True)
    box_N2 = torch.where(fits_N1, first_sides_N2, central_2)
    room_N2 = image_2 - box_N2
    corner_N2 = torch.where(fits_N1, (place_N2 * (room_N2 + 1)).long(), room_N2 // 2)
    return torch.cat((corner_N2, box_N2), dim=1)


def resize_boxes(images_NCHW: Tensor, boxes_N4: Tensor, mirrored_N: Tensor) -> Tensor:
    """Return the box of each image, resized to the size of the image and optionally flipped horizontally.

    Bilinear as torchvision's `resized_crop`: pixel centres at half coordinates, without pixels outside the
    box. A box is never larger than its result, so antialiasing (torchvision's default) would have no effect.
    """
    height, width = images_NCHW.shape[2:]
    top_N, left_N, box_height_N, box_width_N = boxes_N4.unbind(dim=1)
    y_NH = _grid_coordinates(top_N, box_height_N, height)
    x_NW = _grid_coordinates(left_N, box_width_N, width)
    x_NW = torch.where(mirrored_N[:, None], x_NW.flip(1), x_NW)
    y_NH, x_NW = y_NH.to(images_NCHW), x_NW.to(images_NCHW)
    grid_NHW2 = torch.stack(
        (x_NW[:, None, :].expand(-1, height, -1), y_NH[:, :, None].expand(-1, -1, width)), dim=3
    )
    return functional.grid_sample(images_NCHW, grid_NHW2, padding_mode="border", align_corners=False)


def _grid_coordinates(start_N: Tensor, length_N: Tensor, size: int) -> Tensor:
    """Coordinates of `size` output pixels in the input, (N, size), in the convention of grid_sample.

    That is, from -1 at the outer edge of the first pixel to 1 at that of the last.
    """
    centres = (torch.arange(size, device=start_N.device, dtype=torch.float64) + 0.5) / size
    length_N1 = length_N[:, None].to(centres.dtype)
    # Pixels beyond the outermost centres repeat the edge of the box instead of its surroundings.
    inside_NS = torch.minimum((centres * length_N1 - 0.5).clamp(min=0), length_N1 - 1)
    return (2 * (start_N[:, None] + inside_NS) + 1) / size - 1
