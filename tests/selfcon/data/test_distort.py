import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import InterpolationMode, v2
from torchvision.transforms.v2 import functional as oracle

from selfcon.data import distort
from selfcon.data.distort import OPERATIONS, Operation

NEAREST = InterpolationMode.NEAREST
SIZES = [(32, 32), (8, 8), (37, 50), (100, 71)]
# The amounts of torchvision's RandAugment(2, 9, 31) at magnitude 9, from its tables.
STEPS = v2.RandAugment(num_ops=2, magnitude=9, num_magnitude_bins=31)._AUGMENTATION_SPACE


def strength(name: str, height: int = 32, width: int = 32) -> float:
    """Return torchvision's amount, rounded: the float32 error (0.27000001) can change a level by one."""
    return round(float(STEPS[name][0](31, height, width)[9]), 6)


def images(num_images: int, height: int, width: int) -> Tensor:
    """Return noise, dark, low-contrast and constant images, a steep and a flat ramp, then noise again."""
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.randint(256, (num_images, 3, height, width), generator=generator, dtype=torch.uint8)
    images_NCHW[1] //= 9
    images_NCHW[2] = 100 + images_NCHW[2] // 17
    images_NCHW[3] = 77
    ramp_HW = torch.arange(height * width).view(height, width)
    images_NCHW[4] = (ramp_HW * 256 // (height * width)).to(torch.uint8)
    images_NCHW[5] = (ramp_HW * 9 // (height * width)).to(torch.uint8)
    return images_NCHW


def sheared(image_CHW: Tensor, x: float, y: float) -> Tensor:
    shear = [math.degrees(math.atan(amount)) for amount in (x, y)]
    moved: Tensor = oracle.affine(
        image_CHW, angle=0, translate=[0, 0], scale=1, shear=shear, interpolation=NEAREST, center=[0, 0]
    )
    return moved


def shifted(image_CHW: Tensor, x: int, y: int) -> Tensor:
    moved: Tensor = oracle.affine(
        image_CHW, angle=0, translate=[x, y], scale=1, shear=[0, 0], interpolation=NEAREST
    )
    return moved


ORACLES: list[tuple[Operation, str, Callable[[Tensor, float], Tensor]]] = [
    (distort.keep, "Identity", lambda image, _: image),
    (distort.shear_x, "ShearX", lambda image, sign: sheared(image, sign * strength("ShearX"), 0)),
    (distort.shear_y, "ShearY", lambda image, sign: sheared(image, 0, sign * strength("ShearY"))),
    (
        distort.shift_x,
        "TranslateX",
        lambda image, sign: shifted(image, int(sign * strength("TranslateX", width=image.shape[2])), 0),
    ),
    (
        distort.shift_y,
        "TranslateY",
        lambda image, sign: shifted(image, 0, int(sign * strength("TranslateY", height=image.shape[1]))),
    ),
    (
        distort.rotate,
        "Rotate",
        lambda image, sign: oracle.rotate(image, sign * strength("Rotate"), interpolation=NEAREST),
    ),
    (
        distort.change_brightness,
        "Brightness",
        lambda image, sign: oracle.adjust_brightness(image, 1 + sign * strength("Brightness")),
    ),
    (
        distort.change_color,
        "Color",
        lambda image, sign: oracle.adjust_saturation(image, 1 + sign * strength("Color")),
    ),
    (
        distort.change_contrast,
        "Contrast",
        lambda image, sign: oracle.adjust_contrast(image, 1 + sign * strength("Contrast")),
    ),
    (
        distort.change_sharpness,
        "Sharpness",
        lambda image, sign: oracle.adjust_sharpness(image, 1 + sign * strength("Sharpness")),
    ),
    (distort.posterize, "Posterize", lambda image, _: oracle.posterize(image, int(strength("Posterize")))),
    (distort.solarize, "Solarize", lambda image, _: oracle.solarize(image, 255 * strength("Solarize"))),
    (distort.stretch_contrast, "AutoContrast", lambda image, _: oracle.autocontrast(image)),
    (distort.equalize, "Equalize", lambda image, _: oracle.equalize(image)),
]


def test_operations_are_those_of_torchvision_with_equal_probabilities() -> None:
    assert [name for _, name, _ in ORACLES] == list(STEPS)
    assert [operation for operation, _ in OPERATIONS] == [o for o, _, _ in ORACLES for _ in range(2)]
    signs = [STEPS[name][1] for _, name, _ in ORACLES]
    assert [
        first == -second != 0
        for (_, first), (_, second) in zip(OPERATIONS[::2], OPERATIONS[1::2], strict=True)
    ] == signs


@pytest.mark.parametrize(("height", "width"), SIZES)
@pytest.mark.parametrize("number", range(28))
def test_every_pixel_equals_torchvision(number: int, height: int, width: int) -> None:
    images_NCHW = images(8, height, width)
    operation, amount = OPERATIONS[number]
    _, _, theirs = ORACLES[number // 2]
    expected_NCHW = torch.stack([theirs(image_CHW, math.copysign(1, amount)) for image_CHW in images_NCHW])
    found_NCHW = operation(images_NCHW, amount)
    assert found_NCHW.dtype == torch.uint8
    assert torch.equal(found_NCHW, expected_NCHW)


@pytest.mark.parametrize("number", range(28))
def test_operations_do_not_change_their_argument(number: int) -> None:
    images_NCHW = images(8, 20, 30)
    operation, amount = OPERATIONS[number]
    operation(images_NCHW, amount)
    assert torch.equal(images_NCHW, images(8, 20, 30))


@pytest.mark.parametrize("number", range(2, 28))
def test_operations_change_the_image(number: int) -> None:
    operation, amount = OPERATIONS[number]
    images_NCHW = images(8, 20, 30)
    assert not torch.equal(operation(images_NCHW, amount), images_NCHW)


@pytest.mark.parametrize("number", range(28))
@pytest.mark.parametrize(("height", "width"), [(1, 1), (2, 9), (9, 2)])
def test_operations_accept_the_smallest_images(number: int, height: int, width: int) -> None:
    operation, amount = OPERATIONS[number]
    assert operation(images(8, height, width), amount).shape == (8, 3, height, width)
