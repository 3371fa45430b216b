import resource
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms
from torchvision.datasets.folder import default_loader
from torchvision.transforms import functional as oracle

from selfcon.data.decode import (
    MAX_PIXELS,
    decode_image,
    image_of,
    inspect_image,
    pixels,
    resized_box,
    resized_center,
)
from selfcon.errors import ConfigError
from tests.selfcon import tiny_datasets


def picture(height: int = 30, width: int = 44) -> Image.Image:
    image_HW3: Any = tiny_datasets.levels(1, 2, num_classes=3, height=height, width=width)
    return Image.fromarray(image_HW3)


def saved(path: Path, mode: str, **options: Any) -> Path:
    picture().convert(mode).save(path, **options)
    return path


@pytest.mark.parametrize(
    ("mode", "name", "options"),
    [
        ("RGB", "a.jpg", {}),
        ("L", "a.jpg", {}),
        ("CMYK", "a.jpg", {}),
        ("RGB", "a.png", {}),
        ("RGB", "a.png", {"transparency": (1, 2, 3)}),
        ("RGBA", "a.png", {}),
        ("L", "a.png", {}),
        ("LA", "a.png", {}),
        ("1", "a.png", {}),
        ("P", "a.png", {}),
        ("P", "a.png", {"transparency": 3}),
    ],
)
def test_images_of_every_mode_equal_torchvision(
    tmp_path: Path, mode: str, name: str, options: dict[str, Any]
) -> None:
    path = saved(tmp_path / name, mode, **options)
    found = decode_image(path)
    assert found.mode == "RGB"
    assert np.array_equal(np.asarray(found), np.asarray(default_loader(str(path))))
    assert inspect_image(path) == (30, 44)


def test_palette_with_several_transparent_colours_keeps_its_colours(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.png", "P", transparency=bytes(range(200)))
    assert np.array_equal(np.asarray(decode_image(path)), np.asarray(picture().convert("P").convert("RGB")))


def test_format_is_detected_from_the_content_not_the_name(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", "RGB", format="PNG")
    assert np.array_equal(np.asarray(decode_image(path)), np.asarray(picture()))


def test_pixels_and_image_of_are_inverse() -> None:
    pixels_CHW = pixels(picture())
    assert pixels_CHW.dtype == torch.uint8
    assert np.array_equal(pixels_CHW.permute(1, 2, 0).numpy(), np.asarray(picture()))
    assert np.array_equal(np.asarray(image_of(pixels_CHW)), np.asarray(picture()))


def cut_off(path: Path, *, mode: str = "RGB", share: float = 0.6) -> Path:
    content = saved(path, mode).read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path


def holding(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def folder_called(path: Path) -> Path:
    path.mkdir()
    return path


DAMAGED: list[tuple[Any, str]] = [
    (lambda folder: cut_off(folder / "a.jpg"), "image file is truncated"),
    (lambda folder: cut_off(folder / "a.png"), "image file is truncated"),
    (lambda folder: cut_off(folder / "a.jpg", share=0.02), "not an image of format JPEG or PNG"),
    (lambda folder: holding(folder / "a.jpg", b"not an image at all"), "not an image of format JPEG or PNG"),
    (lambda folder: holding(folder / "a.png", b""), "not an image of format JPEG or PNG"),
    (lambda folder: saved(folder / "a.jpg", "RGB", format="BMP"), "not an image of format JPEG or PNG"),
    (lambda folder: saved(folder / "a.png", "I;16"), r"levels of more than 8 bits \(Pillow's mode I;16\)"),
    (lambda folder: folder_called(folder / "a.png"), "is a directory"),
    (lambda folder: folder / "a.png", "no such file or directory"),
    (
        lambda folder: tiny_datasets.write_png_header(folder / "a.png", height=10_000, width=10_000),
        "more than the 89478485 pixels that Pillow considers safe",
    ),
    (
        lambda folder: tiny_datasets.write_png_header(folder / "a.png", height=60_000, width=60_000),
        "more than the 89478485 pixels that Pillow considers safe",
    ),
]


@pytest.mark.parametrize(("make", "reason"), DAMAGED)
@pytest.mark.parametrize("read", [decode_image, inspect_image])
def test_incomplete_and_invalid_images_are_rejected_by_name(
    tmp_path: Path, make: Any, reason: str, read: Any
) -> None:
    path = make(tmp_path)
    with pytest.raises(
        ConfigError, match=rf"^data\.root: expected images that can be read, got {path}: {reason}"
    ) as refused:
        read(path)
    assert "\n" not in str(refused.value)


def test_maximum_image_size_is_that_of_pillow(tmp_path: Path) -> None:
    assert MAX_PIXELS == Image.MAX_IMAGE_PIXELS == 5 * 17_895_697
    path = tiny_datasets.write_png_header(tmp_path / "a.png", height=5, width=17_895_697)
    assert inspect_image(path) == (5, 17_895_697)
    tiny_datasets.write_png_header(path, height=5, width=17_895_698)
    with pytest.raises(ConfigError, match=rf"got {path}: more than the 89478485 pixels that Pillow"):
        inspect_image(path)


def test_bytes_after_the_end_of_an_image_are_accepted(tmp_path: Path) -> None:
    path = saved(tmp_path / "a.jpg", "RGB")
    path.write_bytes(path.read_bytes() + bytes(5000))
    assert inspect_image(path) == (30, 44)


@pytest.mark.parametrize("box", [(0, 0, 30, 44), (3, 7, 11, 30), (20, 1, 5, 5), (29, 43, 1, 1)])
@pytest.mark.parametrize("size", [8, 32])
def test_resized_box_equals_torchvision(box: tuple[int, int, int, int], size: int) -> None:
    expected = oracle.resized_crop(picture(), *box, [size, size])
    assert np.array_equal(np.asarray(resized_box(picture(), box, size)), np.asarray(expected))


@pytest.mark.parametrize(("height", "width"), [(30, 44), (44, 30), (37, 37), (16, 300), (333, 500), (9, 8)])
@pytest.mark.parametrize("size", [8, 33, 224])
def test_centre_crop_equals_torchvision(height: int, width: int, size: int) -> None:
    expected = transforms.CenterCrop(size)(transforms.Resize(round(size * 256 / 224))(picture(height, width)))
    found = resized_center(picture(height, width), size)
    assert found.size == (size, size)
    assert np.array_equal(np.asarray(found), np.asarray(expected))


@pytest.fixture
def little_memory() -> Iterator[None]:
    """Limit the memory of this process to 200 MB more than it uses."""
    before = resource.getrlimit(resource.RLIMIT_AS)
    used_pages = int(Path("/proc/self/statm").read_text().split()[0])
    resource.setrlimit(resource.RLIMIT_AS, (used_pages * resource.getpagesize() + 200_000_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_AS, before)


@pytest.mark.usefixtures("little_memory")
@pytest.mark.parametrize(("length", "size"), [(3000, 224), (65_000, 224), (3000, 500)])
def test_centre_crop_of_a_very_long_image_needs_little_memory(length: int, size: int) -> None:
    line, short, first = picture(1, length), round(size * 256 / 224), length // 2 - 4
    # Every pixel of the line becomes `short` pixels, so the central eight can be resized separately.
    middle = line.crop((first, 0, first + 8, 1)).resize((8 * short, 1), Image.Resampling.BILINEAR)
    left = round((length * short - size) / 2) - first * short
    row_1S3 = np.asarray(middle).astype(int)[:, left : left + size]
    flat = np.asarray(resized_center(line, size))
    upright = np.asarray(resized_center(line.transpose(Image.Transpose.TRANSPOSE), size))
    assert flat.shape == upright.shape == (size, size, 3)
    assert np.abs(flat - row_1S3).max() <= 1
    assert np.abs(upright.transpose(1, 0, 2) - row_1S3).max() <= 1
