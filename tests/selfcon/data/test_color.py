import colorsys
import itertools
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torchvision.transforms import functional as oracle

from selfcon.data.color import adjust_brightness, adjust_contrast, adjust_hue, adjust_saturation, grey

Adjust = Callable[[Tensor, Tensor], Tensor]

BLENDS = [
    (adjust_brightness, oracle.adjust_brightness),
    (adjust_contrast, oracle.adjust_contrast),
    (adjust_saturation, oracle.adjust_saturation),
]


def images(*, num_images: int = 40, dtype: torch.dtype = torch.float64) -> Tensor:
    """Return random images that include black, white, grey, pure colours, and ties between channels."""
    generator = torch.Generator().manual_seed(0)
    images_NCHW = torch.rand(num_images, 3, 13, 17, generator=generator, dtype=dtype)
    images_NCHW[:, :, 0] = images_NCHW[:, :, 0].round()
    images_NCHW[:, :, 1] = images_NCHW[:, :1, 1]
    images_NCHW[:, 0, 2] = images_NCHW[:, 1, 2]
    images_NCHW[:, 1, 3] = images_NCHW[:, 2, 3]
    images_NCHW[:, 2, 4] = images_NCHW[:, 0, 4]
    return images_NCHW


def image_by_image(
    adjust: Callable[[Tensor, float], Tensor], images_NCHW: Tensor, amounts_N: Tensor
) -> Tensor:
    pairs = zip(images_NCHW, amounts_N.tolist(), strict=True)
    return torch.stack([adjust(image_CHW, amount) for image_CHW, amount in pairs])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-6), (torch.float64, 1e-14)])
@pytest.mark.parametrize(("ours", "theirs"), BLENDS)
def test_blends_equal_torchvision(
    ours: Adjust, theirs: Callable[[Tensor, float], Tensor], dtype: torch.dtype, tolerance: float
) -> None:
    images_NCHW, factors_N = images(dtype=dtype), torch.linspace(0, 2, 40, dtype=torch.float64)
    found_NCHW = ours(images_NCHW, factors_N)
    assert found_NCHW.dtype == dtype
    expected_NCHW = image_by_image(theirs, images_NCHW, factors_N)
    torch.testing.assert_close(found_NCHW, expected_NCHW, atol=tolerance, rtol=0)


def test_adjust_hue_equals_torchvision() -> None:
    images_NCHW, turns_N = images(dtype=torch.float32), torch.linspace(-0.5, 0.5, 40, dtype=torch.float64)
    found_NCHW = adjust_hue(images_NCHW, turns_N)
    assert found_NCHW.dtype == torch.float32
    expected_NCHW = image_by_image(oracle.adjust_hue, images_NCHW, turns_N)
    torch.testing.assert_close(found_NCHW, expected_NCHW, atol=3e-6, rtol=0)


def test_adjust_hue_equals_the_conversion_to_hsv_and_back() -> None:
    # torchvision adjusts hues only in float32, so the reference is the standard library, pixel by pixel.
    images_NCHW, turns_N = images(), torch.linspace(-0.5, 0.5, 40, dtype=torch.float64)
    expected_NCHW = torch.empty_like(images_NCHW)
    for number, turn in enumerate(turns_N.tolist()):
        for row, column in itertools.product(range(13), range(17)):
            red, green, blue = images_NCHW[number, :, row, column].tolist()
            hue, saturation, value = colorsys.rgb_to_hsv(red, green, blue)
            turned = colorsys.hsv_to_rgb((hue + turn) % 1, saturation, value)
            expected_NCHW[number, :, row, column] = torch.tensor(turned, dtype=torch.float64)
    found_NCHW = adjust_hue(images_NCHW, turns_N)
    torch.testing.assert_close(found_NCHW, expected_NCHW, atol=1e-14, rtol=0)


def test_grey_equals_torchvision() -> None:
    expected_N1HW = oracle.rgb_to_grayscale(images())
    torch.testing.assert_close(grey(images()), expected_N1HW, atol=1e-15, rtol=0)


@pytest.mark.parametrize(
    ("adjust", "neutral"),
    [(adjust_brightness, 1.0), (adjust_contrast, 1.0), (adjust_saturation, 1.0), (adjust_hue, 0.0)],
)
def test_the_neutral_amount_changes_nothing(adjust: Adjust, neutral: float) -> None:
    found_NCHW = adjust(images(), torch.full((40,), neutral, dtype=torch.float64))
    torch.testing.assert_close(found_NCHW, images(), atol=1e-15, rtol=0)


@pytest.mark.parametrize("turns", [-2.0, -1.0, 1.0, 3.0])
def test_full_turns_of_the_hue_change_nothing(turns: float) -> None:
    found_NCHW = adjust_hue(images(), torch.full((40,), turns, dtype=torch.float64))
    torch.testing.assert_close(found_NCHW, images(), atol=1e-14, rtol=0)


def test_a_third_of_a_turn_maps_red_to_green_and_green_to_blue() -> None:
    colors_NCHW = torch.eye(3, dtype=torch.float64)[:, :, None, None]
    found_NCHW = adjust_hue(colors_NCHW, torch.full((3,), 1 / 3, dtype=torch.float64))
    torch.testing.assert_close(found_NCHW, colors_NCHW.roll(-1, dims=0), atol=1e-15, rtol=0)


@pytest.mark.parametrize("adjust", [adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue])
def test_adjusting_an_empty_batch_gives_an_empty_batch(adjust: Adjust) -> None:
    assert adjust(images()[:0], torch.ones(0)).shape == (0, 3, 13, 17)


@pytest.mark.parametrize("adjust", [adjust_brightness, adjust_contrast, adjust_saturation, adjust_hue])
def test_adjusting_does_not_change_the_argument(adjust: Adjust) -> None:
    images_NCHW = images()
    adjust(images_NCHW, torch.full((40,), 0.3, dtype=torch.float64))
    assert torch.equal(images_NCHW, images())
