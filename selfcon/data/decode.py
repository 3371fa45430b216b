"""Decoding of image files; errors name the file.

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

# Pillow's `MAX_IMAGE_PIXELS`. Up to twice as many, `Image.open` only warns, and warning filters are global to
# the process; so the format plugins are called directly.
MAX_PIXELS = 89_478_485


class Format(NamedTuple):
    """Image format: start of its files, reader, and end of its files."""

    signature: bytes
    reader: type[ImageFile]
    end: bytes


# The content decides, not the name: ImageNet has a PNG among its JPEGs.
FORMATS: Mapping[str, Format] = {
    "JPEG": Format(b"\xff\xd8\xff", JpegImageFile, b"\xff\xd9"),
    "PNG": Format(b"\x89PNG\r\n\x1a\n", PngImageFile, b"IEND"),
}

_NO_IMAGE = f"not an image of format {' or '.join(FORMATS)}"
_SIGNATURE_BYTES = max(len(kind.signature) for kind in FORMATS.values())
_TAIL_BYTES = 1024  # some cameras append a few bytes
# Ratio of the short side before the centre crop to the image size, as in torchvision's references.
_EVALUATION_MARGIN = 256 / 224

# Errors of Pillow for damaged files, in addition to OSError.
_DAMAGE = (SyntaxError, ValueError, EOFError, struct.error, zlib.error)


def inspect_image(path: Path) -> tuple[int, int]:
    """Return (height, width) from the header of a file; a file that may be truncated is decoded.

    Raises `ConfigError` if it is not an image, damaged, or larger than `MAX_PIXELS`.
    """
    with _opened(path) as (image, end):
        if end not in _tail(path):
            image.load()
        return image.height, image.width


def decode_image(path: Path) -> Image.Image:
    """Return the image in RGB; as in torchvision, transparency and EXIF rotation are ignored.

    Raises `ConfigError` if it is not an image, damaged, or larger than `MAX_PIXELS`.
    """
    with _opened(path) as (image, _):
        image.load()
        # In a direct conversion to RGB, Pillow warns about a palette with transparency; the colours are the
        # same.
        opaque = image.convert("RGBA") if image.mode == "P" and "transparency" in image.info else image
        return opaque if opaque.mode == "RGB" else opaque.convert("RGB")


def pixels(image: Image.Image) -> Tensor:
    """Return the pixels of an RGB image, uint8 of shape (C, H, W)."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def image_of(pixels_CHW: Tensor) -> Image.Image:
    """Return the RGB image of pixels, uint8 of shape (C, H, W)."""
    return Image.fromarray(pixels_CHW.permute(1, 2, 0).contiguous().numpy())


def resized_box(image: Image.Image, box: tuple[int, int, int, int], size: int) -> Image.Image:
    """Return the box (top, left, height, width) of an image as a square: bilinear, antialiased.

    As torchvision's `resized_crop`, without pixels outside the box.
    """
    top, left, height, width = box
    cut = image.crop((left, top, left + width, top + height))
    return cut.resize((size, size), Image.Resampling.BILINEAR)


def resized_center(image: Image.Image, size: int) -> Image.Image:
    """Return the centre crop of an image for evaluation, a square of `size` pixels.

    The short side is resized to round(size x 256 / 224), bilinear and antialiased, and the centre is cropped:
    torchvision's Resize and CenterCrop, as in its reference training. If the resized image would have more
    than `MAX_PIXELS`, only the centre is computed, equal to within one level.
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
    """The undecoded image, and the required end of its file; errors in the block name the file."""
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
    except SyntaxError as error:  # as in `Image.open`; later it means damage
        raise ValueError(_NO_IMAGE) from error


def _check_size(image: Image.Image) -> None:
    if not image.width * image.height <= MAX_PIXELS:
        raise ValueError(f"more than the {MAX_PIXELS} pixels that Pillow considers safe")


def _check_depth(image: Image.Image) -> None:
    """Pillow would clip 16-bit grey levels at 255."""
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
