"""Image files to pixels. What cannot be read as an image is refused by its name.

Shape letters: C = 3 channels, H height, W width.
"""

import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from selfcon.errors import ConfigError

# What a file holds decides, not how it is called: ImageNet has a PNG among its JPEGs. Pillow could open more
# formats, and start other programs for some of them.
FORMATS = ("JPEG", "PNG")

_END_MARKERS = {"JPEG": b"\xff\xd9", "PNG": b"IEND"}
_TAIL_BYTES = 1024  # some cameras write a little behind the end
# A JPEG's short side before the centre is cut out, for each pixel of the image: torchvision's references.
_EVALUATION_MARGIN = 256 / 224

# What Pillow raises for a damaged file, apart from OSError.
_DAMAGE = (
    SyntaxError, ValueError, EOFError, struct.error, zlib.error, Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)  # fmt: skip


def forbid_pixel_bombs() -> None:
    """Make Pillow's warning about images of very many pixels an error, in this process, as Pillow advises."""
    warnings.simplefilter("error", Image.DecompressionBombWarning)


def inspect_image(path: Path) -> tuple[int, int]:
    """Return (height, width) from the file's header; a file that looks cut off is decoded to find out.

    Raises `ConfigError` for what is not an image, or a damaged one.
    """
    with _refusing(path), Image.open(path, formats=FORMATS) as image:
        _check_depth(image)
        if _END_MARKERS["PNG" if image.format == "PNG" else "JPEG"] not in _tail(path):
            image.load()
        return image.height, image.width


def decode_image(path: Path) -> Image.Image:
    """Return the whole image in RGB; as in torchvision, transparency and EXIF's rotation are not looked at.

    Raises `ConfigError` for what is not an image, or a damaged one.
    """
    with _refusing(path), Image.open(path, formats=FORMATS) as image:
        _check_depth(image)
        image.load()
        # Straight to RGB, Pillow warns of a palette with transparency; the colours are the same.
        opaque = image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
        return opaque if opaque.mode == "RGB" else opaque.convert("RGB")


def pixels(image: Image.Image) -> Tensor:
    """Return the levels of an RGB image, uint8 of shape (C, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def image_of(pixels_CHW: Tensor) -> Image.Image:
    """Return the RGB image of levels, uint8 of shape (C, H, W)."""
    return Image.fromarray(pixels_CHW.permute(1, 2, 0).contiguous().numpy())


def resized_box(image: Image.Image, box: tuple[int, int, int, int], size: int) -> Image.Image:
    """Return the box (top, left, height, width) of an image as a square: bilinear, antialiased.

    As torchvision's `resized_crop`: nothing from outside the box comes in.
    """
    top, left, height, width = box
    cut = image.crop((left, top, left + width, top + height))
    return cut.resize((size, size), Image.Resampling.BILINEAR)


def resized_center(image: Image.Image, size: int) -> Image.Image:
    """Return the centre of an image as evaluation sees it, a square of `size` pixels.

    The short side is resized to round(size x 256 / 224), bilinear and antialiased, the long one with it; then
    the centre is cut out: torchvision's Resize and CenterCrop, as in its reference training.
    """
    short = round(size * _EVALUATION_MARGIN)
    width, height = (int(short * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    return resized.crop((left, top, left + size, top + size))


def _check_depth(image: Image.Image) -> None:
    """Pillow would cut grey levels of 16 bits off at 255."""
    if not image.mode.startswith(("1", "L", "P", "R", "C", "Y")):
        raise ValueError(f"levels of more than 8 bits (Pillow's mode {image.mode})")


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read()


@contextmanager
def _refusing(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, *_DAMAGE) as error:
        raise ConfigError("data.root", "images that can be read", f"{path}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return f"not an image of format {' or '.join(FORMATS)}"
    if isinstance(error, Image.DecompressionBombError | Image.DecompressionBombWarning):
        return f"more than the {Image.MAX_IMAGE_PIXELS} pixels that Pillow takes for safe"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error) or type(error).__name__).splitlines()[0]
