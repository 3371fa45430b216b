"""Image files to pixels. What cannot be read as an image is refused by its name.

Shape letters: C = 3 channels, H height, W width.
"""

import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from PIL import Image
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from torch import Tensor

from selfcon.errors import ConfigError

# Pillow's own `MAX_IMAGE_PIXELS`. Of up to twice as many `Image.open` only warns, and to silence or sharpen a
# warning is to do so for all threads of the process: so the readers are called without it.
MAX_PIXELS = 89_478_485


class Format(NamedTuple):
    """How a file of a format begins, what reads it, and what stands at its end."""

    signature: bytes
    reader: type[ImageFile]
    end: bytes


# What a file holds decides, not how it is called: ImageNet has a PNG among its JPEGs.
FORMATS: Mapping[str, Format] = {
    "JPEG": Format(b"\xff\xd8\xff", JpegImageFile, b"\xff\xd9"),
    "PNG": Format(b"\x89PNG\r\n\x1a\n", PngImageFile, b"IEND"),
}

_NO_IMAGE = f"not an image of format {' or '.join(FORMATS)}"
_SIGNATURE_BYTES = max(len(kind.signature) for kind in FORMATS.values())
_TAIL_BYTES = 1024  # some cameras write a little behind the end
# A JPEG's short side before the centre is cut out, for each pixel of the image: torchvision's references.
_EVALUATION_MARGIN = 256 / 224

# What Pillow raises for a damaged file, apart from OSError.
_DAMAGE = (SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def inspect_image(path: Path) -> tuple[int, int]:
    """Return (height, width) from the file's header; a file that looks cut off is decoded to find out.

    Raises `ConfigError` for what is not an image, a damaged one, or one of more than `MAX_PIXELS`.
    """
    with _opened(path) as (image, end):
        if end not in _tail(path):
            image.load()
        return image.height, image.width


def decode_image(path: Path) -> Image.Image:
    """Return the whole image in RGB; as in torchvision, transparency and EXIF's rotation are not looked at.

    Raises `ConfigError` for what is not an image, a damaged one, or one of more than `MAX_PIXELS`.
    """
    with _opened(path) as (image, _):
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
    the centre is cut out: torchvision's Resize and CenterCrop, as in its reference training. Of an image so
    long that all of it would be more than `MAX_PIXELS`, only the centre is computed, equal to within a level.
    """
    short = round(size * _EVALUATION_MARGIN)
    width, height = (int(short * side / min(image.size)) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    if width * height <= MAX_PIXELS:
        resized = image.resize((width, height), Image.Resampling.BILINEAR)
        return resized.crop((left, top, left + size, top + size))
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, (left + size) * across, (top + size) * down)
    return image.resize((size, size), Image.Resampling.BILINEAR, box)


@contextmanager
def _opened(path: Path) -> Iterator[tuple[ImageFile, bytes]]:
    """The image, not decoded yet, and what its file must end with; damage met inside is refused by name."""
    try:
        with path.open("rb") as file:
            kind = _format_of(file.read(_SIGNATURE_BYTES))
            file.seek(0)
            image = _header(kind, file)
            _check_size(image)
            _check_depth(image)
            yield image, kind.end
    except (OSError, *_DAMAGE) as error:
        raise ConfigError("data.root", "images that can be read", f"{path}: {_reason(error)}") from error


def _format_of(beginning: bytes) -> Format:
    for kind in FORMATS.values():
        if beginning.startswith(kind.signature):
            return kind
    raise ValueError(_NO_IMAGE)


def _header(kind: Format, file: BinaryIO) -> ImageFile:
    try:
        return kind.reader(file)
    except SyntaxError as error:  # as `Image.open` takes it; later it is damage
        raise ValueError(_NO_IMAGE) from error


def _check_size(image: Image.Image) -> None:
    if not image.width * image.height <= MAX_PIXELS:
        raise ValueError(f"more than the {MAX_PIXELS} pixels that Pillow takes for safe")


def _check_depth(image: Image.Image) -> None:
    """Pillow would cut grey levels of 16 bits off at 255."""
    if not image.mode.startswith(("1", "L", "P", "R", "C", "Y")):
        raise ValueError(f"levels of more than 8 bits (Pillow's mode {image.mode})")


def _tail(path: Path) -> bytes:
    with path.open("rb") as file:
        file.seek(max(path.stat().st_size - _TAIL_BYTES, 0))
        return file.read()


def _reason(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return (str(error) or type(error).__name__).splitlines()[0]
