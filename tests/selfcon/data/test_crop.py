import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.transforms import InterpolationMode, RandomResizedCrop
from torchvision.transforms import functional as oracle

from selfcon.data.crop import crop_boxes, resize_boxes

Box = tuple[int, int, int, int]


def uniforms(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def boxes_of(*, num_images: int, height: int, width: int) -> Tensor:
    return crop_boxes(
        uniforms(num_images, 10, 2), uniforms(num_images, 2, seed=1), height=height, width=width
    )


def random_images(num_images: int, height: int, width: int, dtype: torch.dtype = torch.float64) -> Tensor:
    return uniforms(num_images, 3, height, width, seed=2).to(dtype)


def slow_box(tries: list[list[float]], place: list[float], *, height: int, width: int) -> Box:
    """The definition, try by try."""
    for for_area, for_ratio in tries:
        area = height * width * (0.2 + 0.8 * for_area)
        ratio = math.exp(math.log(3 / 4) + (math.log(4 / 3) - math.log(3 / 4)) * for_ratio)
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            return int(place[0] * (height - h + 1)), int(place[1] * (width - w + 1)), h, w
    h, w = min(height, round(width / (3 / 4))), min(width, round(height * 4 / 3))
    return (height - h) // 2, (width - w) // 2, h, w


@pytest.mark.parametrize(("height", "width"), [(8, 8), (32, 32), (224, 224), (20, 31), (40, 9), (1, 1)])
def test_boxes_equal_the_definition(height: int, width: int) -> None:
    # Cases with and without a try that fits.
    shape_NT2, place_N2 = uniforms(500, 2, 2), uniforms(500, 2, seed=1)
    expected = [
        slow_box(tries, place, height=height, width=width)
        for tries, place in zip(shape_NT2.tolist(), place_N2.tolist(), strict=True)
    ]
    assert crop_boxes(shape_NT2, place_N2, height=height, width=width).tolist() == [
        list(box) for box in expected
    ]


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (32, 32, [0, 0, 32, 32]),
        (10, 40, [0, 13, 10, 13]),
        (40, 10, [13, 0, 13, 10]),
        (30, 35, [0, 0, 30, 35]),
    ],
)
def test_box_is_central_if_no_try_fits(height: int, width: int, expected: list[int]) -> None:
    # Nearly the entire area, at the smallest and at the largest ratio.
    shape_NT2 = torch.tensor([[[0.999, 0.0]] * 10, [[0.999, 0.999]] * 10], dtype=torch.float64)
    shape_NT2 = shape_NT2[: 1 + (height == width)]
    boxes_N4 = crop_boxes(shape_NT2, torch.full((len(shape_NT2), 2), 0.9), height=height, width=width)
    assert boxes_N4[-1].tolist() == expected


@settings(max_examples=50)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    tries=st.lists(
        st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2), min_size=1, max_size=10
    ),
    place=st.lists(st.floats(0, 1, exclude_max=True), min_size=2, max_size=2),
)
def test_boxes_are_inside_the_image(
    height: int, width: int, tries: list[list[float]], place: list[float]
) -> None:
    shape_1T2, place_12 = (torch.tensor([values], dtype=torch.float64) for values in (tries, place))
    ((top, left, box_height, box_width),) = crop_boxes(
        shape_1T2, place_12, height=height, width=width
    ).tolist()
    assert 0 <= top <= height - box_height < height
    assert 0 <= left <= width - box_width < width


def test_boxes_have_the_distribution_of_torchvision() -> None:
    num_boxes, size = 20_000, 12
    ours = boxes_of(num_images=num_boxes, height=size, width=size)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image_CHW = torch.empty(3, size, size)
        draws = [
            RandomResizedCrop.get_params(image_CHW, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(num_boxes)
        ]
    theirs = torch.tensor(draws)
    for number in range(4):
        first, second = (
            torch.bincount(boxes_N4[:, number], minlength=size + 1).double() for boxes_N4 in (ours, theirs)
        )
        # The variance of the difference of two counts is the expected value of their sum.
        seen = first + second > 10
        statistic = ((first - second).square() / (first + second))[seen].sum().item()
        freedom = int(seen.sum()) - 1
        assert statistic < freedom + 5 * math.sqrt(2 * freedom)
    shapes, their_shapes = (boxes_N4[:, 2] * size + boxes_N4[:, 3] for boxes_N4 in (ours, theirs))
    assert set(shapes.unique().tolist()) == set(their_shapes.unique().tolist())


def far_apart(first_N: Tensor, second_M: Tensor) -> bool:
    """Two-sample Kolmogorov-Smirnov test at a significance level of 1e-5."""
    values = torch.cat((first_N, second_M)).sort().values
    shares = [torch.searchsorted(x.sort().values, values, right=True) / len(x) for x in (first_N, second_M)]
    distance = (shares[0] - shares[1]).abs().max().item()
    limit = math.sqrt(-math.log(1e-5 / 2) / 2)
    return distance > limit * math.sqrt(1 / len(first_N) + 1 / len(second_M))


def measures(boxes_N4: Tensor) -> list[Tensor]:
    """Return areas, ratios, and rows and columns of the centres."""
    top_N, left_N, height_N, width_N = boxes_N4.unbind(dim=1)
    return [height_N * width_N, width_N / height_N, top_N + height_N / 2, left_N + width_N / 2]


@pytest.mark.parametrize(("height", "width"), [(375, 500), (500, 200), (64, 64)])
def test_areas_and_ratios_have_the_distribution_of_torchvision(height: int, width: int) -> None:
    ours_N4 = boxes_of(num_images=4000, height=height, width=width).double()
    with torch.random.fork_rng():
        torch.manual_seed(1)
        image_CHW = torch.empty(3, height, width)
        draws = [RandomResizedCrop.get_params(image_CHW, [0.2, 1.0], [3 / 4, 4 / 3]) for _ in range(4000)]
    theirs_N4 = torch.tensor(draws).double()
    for ours_N, theirs_N in zip(measures(ours_N4), measures(theirs_N4), strict=True):
        assert not far_apart(ours_N, theirs_N)
    assert far_apart(1.1 * ours_N4[:, 2], theirs_N4[:, 2])


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 3e-6), (torch.float64, 1e-13)])
@pytest.mark.parametrize(("height", "width"), [(8, 8), (16, 16), (32, 32), (13, 17), (64, 64)])
@pytest.mark.parametrize("antialias", [True, False])
def test_resizing_a_box_equals_torchvision(
    height: int, width: int, antialias: bool, dtype: torch.dtype, tolerance: float
) -> None:
    images_NCHW = random_images(60, height, width, dtype)
    boxes_N4 = boxes_of(num_images=60, height=height, width=width)
    expected_NCHW = torch.stack(
        [
            oracle.resized_crop(
                image_CHW, *box, [height, width], InterpolationMode.BILINEAR, antialias=antialias
            )
            for image_CHW, box in zip(images_NCHW, boxes_N4.tolist(), strict=True)
        ]
    )
    found_NCHW = resize_boxes(images_NCHW, boxes_N4, torch.zeros(60, dtype=torch.bool))
    assert found_NCHW.dtype == dtype
    torch.testing.assert_close(found_NCHW, expected_NCHW, atol=tolerance, rtol=0)


def test_box_of_the_whole_image_changes_nothing() -> None:
    images_NCHW = random_images(3, 11, 15)
    whole_N4 = torch.tensor([[0, 0, 11, 15]] * 3)
    found_NCHW = resize_boxes(images_NCHW, whole_N4, torch.tensor([False, False, True]))
    images_NCHW[2] = images_NCHW[2].flip(-1)
    torch.testing.assert_close(found_NCHW, images_NCHW, atol=1e-13, rtol=0)


def test_only_the_selected_images_are_flipped() -> None:
    images_NCHW, boxes_N4 = random_images(50, 10, 12), boxes_of(num_images=50, height=10, width=12)
    mirrored_N = torch.arange(50) % 3 == 0
    plain_NCHW = resize_boxes(images_NCHW, boxes_N4, torch.zeros(50, dtype=torch.bool))
    expected_NCHW = torch.where(mirrored_N[:, None, None, None], plain_NCHW.flip(-1), plain_NCHW)
    found_NCHW = resize_boxes(images_NCHW, boxes_N4, mirrored_N)
    torch.testing.assert_close(found_NCHW, expected_NCHW, atol=1e-13, rtol=0)


def test_pixels_outside_the_box_are_not_used() -> None:
    box_N4 = torch.tensor([[2, 3, 5, 4]])
    images_NCHW = torch.zeros(1, 3, 10, 12)
    images_NCHW[:, :, 2:7, 3:7] = 1
    found_NCHW = resize_boxes(images_NCHW, box_N4, torch.tensor([False]))
    torch.testing.assert_close(found_NCHW, torch.ones(1, 3, 10, 12), atol=1e-6, rtol=0)
