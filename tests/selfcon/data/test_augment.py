import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision import transforms
from torchvision.transforms import functional as oracle

from selfcon.data.augment import ADJUSTMENTS, Augmentation, augment, distort, flip, normalise
from selfcon.data.color import adjust_hue
from selfcon.data.crop import crop_boxes
from selfcon.data.distort import OPERATIONS
from selfcon.data.draws import Stream, uniform
from selfcon.errors import ConfigError

KINDS = ["none", "weak", "standard", "randaugment"]
SIGMAS = 5.0


def images(num_images: int = 64, *, size: int = 16, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (num_images, 3, size, size), generator=generator, dtype=torch.uint8)


def constant_images(num_images: int, color: tuple[int, int, int]) -> Tensor:
    return torch.tensor(color, dtype=torch.uint8)[None, :, None, None].expand(num_images, 3, 4, 4)


def augmented(
    images_NCHW: Tensor,
    indices_N: Tensor | None = None,
    *,
    epoch: int = 2,
    seed: int = 1,
    view: int = 0,
    kind: str = "standard",
    dtype: torch.dtype = torch.float64,
) -> Tensor:
    indices_N = torch.arange(len(images_NCHW)) if indices_N is None else indices_N
    augmentation = Augmentation(kind=kind, seed=seed, epoch=epoch, num_views=2, dtype=dtype)
    return augment(images_NCHW, indices_N, augmentation, view=view)


def slow_weak(image_CHW: Tensor, index: int, *, size: int = 16) -> Tensor:
    """Crop and flip of one image by torchvision, with the draws of seed 1, epoch 2, view 0."""
    index_1 = torch.tensor([index])
    shape_1T2 = uniform(1, 2, index_1, view=0, stream=Stream.CROP_SHAPE, count=20).view(1, 10, 2)
    place_12 = uniform(1, 2, index_1, view=0, stream=Stream.CROP_PLACE, count=2)
    (box,) = crop_boxes(shape_1T2, place_12, height=size, width=size).tolist()
    cropped: Tensor = oracle.resized_crop(image_CHW.double() / 255, *box, [size, size], antialias=True)
    flipped = uniform(1, 2, index_1, view=0, stream=Stream.FLIP, count=1).item() < 0.5
    return cropped.flip(-1) if flipped else cropped


def slow_standard(image_CHW: Tensor, index: int) -> Tensor:
    """The complete recipe for one image."""
    return slow_colors(slow_weak(image_CHW, index), index)


def slow_colors(image_CHW: Tensor, index: int) -> Tensor:
    """Jitter and grey of one image with torchvision; except the hue, which it computes in float32."""
    index_1 = torch.tensor([index])
    factors = uniform(1, 2, index_1, view=0, stream=Stream.JITTER_FACTORS, count=4)[0].tolist()
    brightness, contrast, saturation = (0.6 + 0.8 * factor for factor in factors[:3])
    hue = torch.tensor([-0.1 + 0.2 * factors[3]], dtype=torch.float64)
    steps: list[Callable[[Tensor], Tensor]] = [
        lambda image: oracle.adjust_brightness(image, brightness),
        lambda image: oracle.adjust_contrast(image, contrast),
        lambda image: oracle.adjust_saturation(image, saturation),
        lambda image: adjust_hue(image[None], hue)[0],
    ]
    keys = uniform(1, 2, index_1, view=0, stream=Stream.JITTER_ORDER, count=4)[0].tolist()
    jittered = uniform(1, 2, index_1, view=0, stream=Stream.JITTER, count=1).item() < 0.8
    for number in sorted(range(4), key=keys.__getitem__) if jittered else []:
        image_CHW = steps[number](image_CHW)
    dropped = uniform(1, 2, index_1, view=0, stream=Stream.GREY, count=1).item() < 0.2
    return oracle.rgb_to_grayscale(image_CHW, num_output_channels=3) if dropped else image_CHW


def test_weak_equals_torchvision_crop_and_flip() -> None:
    expected_NCHW = torch.stack([slow_weak(image_CHW, n) for n, image_CHW in enumerate(images())])
    torch.testing.assert_close(augmented(images(), kind="weak"), expected_NCHW, atol=1e-12, rtol=0)


def test_standard_equals_the_torchvision_recipe() -> None:
    expected_NCHW = torch.stack([slow_standard(image_CHW, n) for n, image_CHW in enumerate(images())])
    torch.testing.assert_close(augmented(images()), expected_NCHW, atol=1e-12, rtol=0)


def test_randaugment_applies_two_random_operations_before_the_recipe() -> None:
    drawn_NK = uniform(1, 2, torch.arange(64), view=0, stream=Stream.DISTORTION, count=2)
    distorted = []
    for image_CHW, drawn_K in zip(images(), drawn_NK.tolist(), strict=True):
        image_1CHW = image_CHW[None]
        for number in drawn_K:
            operation, amount = OPERATIONS[math.floor(28 * number)]
            image_1CHW = operation(image_1CHW, amount)
        distorted.append(image_1CHW[0])
    expected_NCHW = torch.stack([slow_standard(image_CHW, n) for n, image_CHW in enumerate(distorted)])
    torch.testing.assert_close(augmented(images(), kind="randaugment"), expected_NCHW, atol=1e-12, rtol=0)


def test_distorted_images_do_not_depend_on_the_batch() -> None:
    def draw_for(indices_N: Tensor) -> Tensor:
        settings = Augmentation(kind="randaugment", seed=1, epoch=2, num_views=1, dtype=torch.float32)
        return distort(images()[indices_N], settings.draw(indices_N, view=0))

    order_N = torch.randperm(64, generator=torch.Generator().manual_seed(0))
    together_NCHW = draw_for(torch.arange(64))
    assert together_NCHW.dtype == torch.uint8
    assert torch.equal(
        torch.cat([draw_for(indices_N) for indices_N in order_N.split(7)]), together_NCHW[order_N]
    )


def test_every_operation_is_equally_likely_at_both_positions() -> None:
    drawn_NK = uniform(0, 0, torch.arange(28_000), view=0, stream=Stream.DISTORTION, count=2)
    numbers_NK = (drawn_NK * 28).long()
    pairs = torch.bincount(numbers_NK[:, 0] * 28 + numbers_NK[:, 1], minlength=784).double()
    expected = 28_000 / 784
    assert (pairs - expected).square().sum().item() / expected < 783 + SIGMAS * math.sqrt(2 * 783)


def test_cropped_images_get_the_flip_and_the_later_operations() -> None:
    settings = Augmentation(kind="standard", seed=1, epoch=2, num_views=1, dtype=torch.float64)
    found_NCHW = augment(images(), torch.arange(64), settings, view=0, cropped=True)
    flipped_N = uniform(1, 2, torch.arange(64), view=0, stream=Stream.FLIP, count=1)[:, 0] < 0.5
    upright_NCHW = images().double() / 255
    mirrored_NCHW = flip(upright_NCHW, settings.draw(torch.arange(64), view=0))
    for number, is_flipped in enumerate(flipped_N.tolist()):
        expected_CHW = upright_NCHW[number].flip(-1) if is_flipped else upright_NCHW[number]
        assert torch.equal(mirrored_NCHW[number], expected_CHW)
        image_CHW = slow_colors(expected_CHW, number)
        torch.testing.assert_close(found_NCHW[number], image_CHW, atol=1e-12, rtol=0)


def test_none_only_scales() -> None:
    assert torch.equal(augmented(images(), kind="none"), images().double() / 255)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_views_keep_the_shape_and_are_in_0_to_1(kind: str, dtype: torch.dtype) -> None:
    extreme_NCHW = torch.cat((images(), images().bitwise_and(128).mul(255), torch.full_like(images(), 255)))
    found_NCHW = augmented(extreme_NCHW[:, :, :, :9], kind=kind, dtype=dtype)
    assert found_NCHW.shape == (192, 3, 16, 9)
    assert found_NCHW.dtype == dtype
    assert 0 <= found_NCHW.min() < found_NCHW.max() <= 1


def test_rounding_does_not_exceed_1() -> None:
    white_NCHW = torch.full((2000, 3, 9, 9), 255, dtype=torch.uint8)
    assert augmented(white_NCHW, kind="weak", dtype=torch.float32).max() == 1


@pytest.mark.parametrize("kind", KINDS)
def test_augmenting_does_not_change_the_argument(kind: str) -> None:
    images_NCHW = images()
    augmented(images_NCHW, kind=kind)
    assert torch.equal(images_NCHW, images())


@pytest.mark.parametrize("kind", KINDS)
def test_float32_makes_the_same_random_decisions(kind: str) -> None:
    single_NCHW = augmented(images(), kind=kind, dtype=torch.float32)
    torch.testing.assert_close(single_NCHW.double(), augmented(images(), kind=kind), atol=1e-5, rtol=0)


@settings(max_examples=25, deadline=None)
@given(chosen=st.lists(st.integers(0, 63), min_size=1, max_size=80), kind=st.sampled_from(KINDS[1:]))
def test_views_do_not_depend_on_the_batch(chosen: list[int], kind: str) -> None:
    batch_B = torch.tensor(chosen)
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        alone_BCHW = augmented(images()[batch_B], batch_B, kind=kind, dtype=dtype)
        together_NCHW = augmented(images(), kind=kind, dtype=dtype)
        torch.testing.assert_close(alone_BCHW, together_NCHW[batch_B], atol=tolerance, rtol=0)


@pytest.mark.parametrize("change", [{"epoch": 3}, {"seed": 2}, {"view": 1}])
@pytest.mark.parametrize("kind", KINDS[1:])
def test_views_depend_on_epoch_seed_and_view(kind: str, change: dict[str, int]) -> None:
    before_NCHW = augmented(images(), kind=kind)
    after_NCHW = augmented(images(), kind=kind, **change)  # type: ignore[arg-type]
    different_N = (before_NCHW - after_NCHW).abs().amax(dim=(1, 2, 3)) > 0.01
    assert different_N.all()


def test_views_depend_on_the_index_not_on_the_position_in_the_batch() -> None:
    same_NCHW = images()[:1].expand(64, -1, -1, -1)
    found_NCHW = augmented(same_NCHW)
    assert len(found_NCHW.flatten(1).unique(dim=0)) == 64
    repeated_NCHW = augmented(same_NCHW, torch.full((64,), 7))
    torch.testing.assert_close(repeated_NCHW, found_NCHW[7:8].expand(64, -1, -1, -1), atol=1e-12, rtol=0)


def share_is(found_N: Tensor, expected: float) -> bool:
    scatter = math.sqrt(expected * (1 - expected) / len(found_N))
    return abs(found_N.double().mean().item() - expected) < SIGMAS * scatter


def test_half_of_the_images_are_flipped() -> None:
    # Left black, right white: in every crop, the left is not brighter than the right.
    steps_NCHW = (torch.arange(16) * 16).to(torch.uint8).expand(4000, 3, 16, 16)
    found_NCHW = augmented(steps_NCHW, kind="weak")
    assert share_is(found_NCHW[:, 0, 8, 0] > found_NCHW[:, 0, 8, -1], 0.5)


def test_20_percent_of_images_become_grey_and_80_percent_are_jittered() -> None:
    # A crop of a constant image has its colour: only jitter or grey changes it.
    colors_NC = augmented(constant_images(4000, (200, 120, 40)))[:, :, 0, 0]
    turned_grey_N = (colors_NC - colors_NC[:, :1]).abs().amax(dim=1) < 1e-12
    original_C = torch.tensor((200, 120, 40), dtype=torch.float64) / 255
    unchanged_N = (colors_NC - original_C).abs().amax(dim=1) < 1e-12
    assert share_is(turned_grey_N, 0.2)
    assert share_is(unchanged_N, 0.2 * 0.8)


def test_brightness_is_uniform_between_0_6_and_1_4() -> None:
    # A constant grey image is changed only by brightness (almost, as the grey weights sum to 0.9999).
    factors_N = augmented(constant_images(8000, (100, 100, 100)))[:, 0, 0, 0] * 255 / 100
    jittered_N = factors_N[(factors_N - 1).abs() > 1e-3]
    assert share_is((factors_N - 1).abs() > 1e-3, 0.8 * (1 - 1e-3 / 0.4))
    assert 0.599 < jittered_N.min() < 0.602
    assert 1.398 < jittered_N.max() < 1.401
    quartiles = torch.quantile(jittered_N, torch.tensor([0.25, 0.5, 0.75], dtype=torch.float64)).tolist()
    assert quartiles == pytest.approx([0.8, 1.0, 1.2], abs=SIGMAS * 0.8 * 0.5 / math.sqrt(len(jittered_N)))


def test_every_order_of_the_adjustments_is_equally_likely() -> None:
    keys_NK = uniform(0, 0, torch.arange(24_000), view=0, stream=Stream.JITTER_ORDER, count=4)
    found = [tuple(order) for order in keys_NK.argsort(dim=1).tolist()]
    counts = [found.count(order) for order in itertools.permutations(range(4))]
    assert sum((count - 1000) ** 2 / 1000 for count in counts) < 23 + SIGMAS * math.sqrt(2 * 23)


def test_recipe_has_the_statistics_of_torchvision() -> None:
    image_CHW, num_draws = images(1, size=8, seed=3)[0], 1500
    recipe = transforms.Compose(
        [
            transforms.RandomResizedCrop(8, scale=(0.2, 1.0), antialias=True),
            transforms.RandomHorizontalFlip(),
            transforms.RandomApply([transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)], p=0.8),
            transforms.RandomGrayscale(p=0.2),
        ]
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = torch.stack([recipe(image_CHW.float() / 255) for _ in range(num_draws)]).double()
    ours = augmented(image_CHW.expand(num_draws, -1, -1, -1))
    for power in (1, 2):
        first, second = ours**power, theirs**power
        scatter = ((first.var(dim=0) + second.var(dim=0)) / num_draws).sqrt()
        assert ((first.mean(dim=0) - second.mean(dim=0)).abs() < SIGMAS * scatter).all()


def far_apart(first_N: Tensor, second_M: Tensor) -> bool:
    """Two-sample Kolmogorov-Smirnov test at a significance level of 1e-5."""
    values = torch.cat((first_N, second_M)).sort().values
    shares = [torch.searchsorted(x.sort().values, values, right=True) / len(x) for x in (first_N, second_M)]
    distance = (shares[0] - shares[1]).abs().max().item()
    limit = math.sqrt(-math.log(1e-5 / 2) / 2)
    return distance > limit * math.sqrt(1 / len(first_N) + 1 / len(second_M))


def jitters_of_torchvision(num_draws: int) -> tuple[list[list[int]], Tensor]:
    """Return the orders and the factors (N, 4) of torchvision's ColorJitter."""
    jitter = transforms.ColorJitter(0.4, 0.4, 0.4, 0.1)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        draws = [
            jitter.get_params(jitter.brightness, jitter.contrast, jitter.saturation, jitter.hue)
            for _ in range(num_draws)
        ]
    return [order.tolist() for order, *_ in draws], torch.tensor([factors for _, *factors in draws])


def test_factors_and_orders_have_the_distribution_of_torchvision() -> None:
    num_draws = 6000
    orders, theirs_N4 = jitters_of_torchvision(num_draws)
    drawn_N4 = uniform(0, 0, torch.arange(num_draws), view=0, stream=Stream.JITTER_FACTORS, count=4)
    keys_N4 = uniform(0, 0, torch.arange(num_draws), view=0, stream=Stream.JITTER_ORDER, count=4)
    for number, (_, neutral, reach) in enumerate(ADJUSTMENTS):
        ours_N = neutral + reach * (2 * drawn_N4[:, number] - 1)
        assert not far_apart(ours_N, theirs_N4[:, number].double())
        assert far_apart(neutral + 1.2 * (ours_N - neutral), theirs_N4[:, number].double())
    ours, theirs = (
        torch.tensor([found.count(list(order)) for order in itertools.permutations(range(4))])
        for found in (keys_N4.argsort(dim=1).tolist(), orders)
    )
    # The variance of the difference of two counts is the expected value of their sum.
    statistic = ((ours - theirs).square() / (ours + theirs)).sum().item()
    assert statistic < 23 + SIGMAS * math.sqrt(2 * 23)
    # The factors of an image are independent of each other and of the order.
    together_N8 = torch.cat((drawn_N4, keys_N4), dim=1)
    correlation_88 = torch.corrcoef(together_N8.T) - torch.eye(8)
    assert correlation_88.abs().max() < SIGMAS / math.sqrt(num_draws)


def test_normalise_subtracts_the_mean_and_divides_by_the_deviation() -> None:
    images_NCHW = images().double() / 255
    found_NCHW = normalise(images_NCHW, mean=(0.1, 0.2, 0.3), std=(0.5, 1.0, 2.0))
    assert found_NCHW[5, 2, 3, 4].item() == pytest.approx(
        (images_NCHW[5, 2, 3, 4].item() - 0.3) / 2, abs=1e-15
    )
    assert found_NCHW[5, 0, 3, 4].item() == pytest.approx(
        (images_NCHW[5, 0, 3, 4].item() - 0.1) / 0.5, abs=1e-15
    )
    assert found_NCHW.dtype == torch.float64
    assert torch.equal(images_NCHW, images().double() / 255)


def test_unknown_kind_is_rejected_with_the_nearest_name() -> None:
    with pytest.raises(ConfigError) as caught:
        augmented(images(), kind="standart")
    expected = "one of none, weak, standard, randaugment, got 'standart' (did you mean standard?)"
    assert str(caught.value) == f"data.augmentation: expected {expected}"


def test_float_images_are_rejected() -> None:
    with pytest.raises(
        ValueError, match=r"expected uint8 images, .* got 64 of torch\.float32 for 64 indices"
    ):
        augmented(images().float())


def test_number_of_indices_must_match_the_images() -> None:
    with pytest.raises(ValueError, match=r"one for each index, got 64 of torch\.uint8 for 3 indices"):
        augmented(images(), torch.arange(3))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_computes_the_same_pixels(kind: str) -> None:
    found_NCHW = augmented(images().cuda(), kind=kind)
    assert found_NCHW.is_cuda
    torch.testing.assert_close(found_NCHW.cpu(), augmented(images(), kind=kind), atol=1e-12, rtol=0)
