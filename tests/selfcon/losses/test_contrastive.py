"""Shape letters as in selfcon.losses.contrastive; `raw` features become projections when normalised."""

import itertools
import json
import math
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode

from selfcon.distributed import rank
from selfcon.errors import ConfigError
from selfcon.losses.contrastive import selfcon_loss
from tests.project import GOLDEN
from tests.selfcon.ranks import on_ranks

GOLDEN = json.loads((GOLDEN / "losses.json").read_text())["cases"]


def projections(num_rows: int, num_exits: int, dim: int = 4, *, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    raw_RED = torch.randn(num_rows, num_exits, dim, dtype=torch.float64, generator=generator)
    return functional.normalize(raw_RED, dim=2)


def loss_and_gradient(z_RED: Tensor, labels_B: Tensor | None, **keywords: Any) -> tuple[Tensor, Tensor]:
    z_RED = z_RED.detach().clone().requires_grad_()
    loss = selfcon_loss(z_RED, labels_B, **keywords)
    return loss.detach(), torch.autograd.grad(loss, z_RED)[0]


def slow_loss(
    z_RED: Tensor,
    labels: list[int] | None,
    *,
    num_views: int = 1,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    exit_weights: list[float],
    backbone_weight: float = 1.0,
    backbone_contrast: str = "all",
) -> Tensor:
    """The definition, anchor by anchor and pair by pair."""
    num_rows, num_exits, _ = z_RED.shape
    num_images = num_rows // num_views
    identities = list(range(num_images)) if labels is None else labels
    weights = [*exit_weights, backbone_weight]
    total = torch.zeros((), dtype=z_RED.dtype)
    for e in range(num_exits):
        only_backbone = backbone_contrast == "backbone" and e == num_exits - 1
        seen_exits = [e] if only_backbone else list(range(num_exits))
        losses = []
        for r in range(num_rows):
            others = [pair for pair in itertools.product(range(num_rows), seen_exits) if pair != (r, e)]
            label = identities[r % num_images]
            positives = [pair for pair in others if identities[pair[0] % num_images] == label]
            if positives:
                logits = {pair: z_RED[r, e] @ z_RED[pair] / temperature for pair in others}
                log_denominator = torch.stack(list(logits.values())).logsumexp(dim=0)
                terms = torch.stack([logits[pair] - log_denominator for pair in positives])
                losses.append(-terms.sum() / len(positives))
        total = total + weights[e] * sum(losses, torch.zeros(())) / max(1, len(losses))
    return total / sum(weights) * temperature / base_temperature


def golden_settings(case: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """Return the settings of a variant of the paper, and the ratio of the authors' loss to ours."""
    shared = {key: case[key] for key in ("temperature", "base_temperature")} | {"num_views": case["views"]}
    if not case["variant"].endswith("*"):
        return shared, 1.0
    num_exits = len(case["raw_features"]) - 1
    star = {"backbone_contrast": "backbone", "exit_weights": case["alpha"] / num_exits}
    return shared | star, 1 + case["alpha"]


@pytest.mark.parametrize("case", GOLDEN, ids=lambda case: f"{case['variant']}-{case['temperature']}")
def test_loss_and_gradient_equal_the_authors_implementation(case: dict[str, Any]) -> None:
    raw_ERD = torch.tensor(case["raw_features"], dtype=torch.float64, requires_grad=True)
    labels_B = torch.tensor(case["labels"]) if case["use_labels"] else None
    keywords, factor = golden_settings(case)
    z_RED = functional.normalize(raw_ERD, dim=2).transpose(0, 1)
    loss = factor * selfcon_loss(z_RED, labels_B, **keywords)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=0, abs=1e-9)
    expected_ERD = torch.tensor(case["grad_raw_features"], dtype=torch.float64)
    torch.testing.assert_close(raw_ERD.grad, expected_ERD, rtol=0, atol=1e-9)


@st.composite
def batches(draw: st.DrawFn) -> tuple[Tensor, list[int] | None, dict[str, Any]]:
    """Projections, labels and keywords, including weights of 0, one exit and one row."""
    num_images, num_views = draw(st.integers(1, 5)), draw(st.integers(1, 2))
    num_exits = draw(st.integers(1, 3))
    labels = draw(st.none() | st.lists(st.integers(0, 3), min_size=num_images, max_size=num_images))
    weight = st.sampled_from([0.0, 0.3, 1.0, 4.0])
    keywords = {
        "num_views": num_views,
        "temperature": draw(st.sampled_from([0.05, 0.1, 1.0])),
        "base_temperature": draw(st.sampled_from([0.07, 1.0])),
        "exit_weights": draw(st.lists(weight, min_size=num_exits - 1, max_size=num_exits - 1)),
        "backbone_weight": draw(st.sampled_from([0.2, 1.0, 3.0])),
        "backbone_contrast": draw(st.sampled_from(["all", "backbone"])),
    }
    return projections(num_images * num_views, num_exits, seed=draw(st.integers(0, 99))), labels, keywords


@settings(deadline=None, max_examples=60)
@given(batch=batches(), chunk_rows=st.sampled_from([None, 1, 3, 100]))
def test_loss_and_gradient_equal_the_definition(
    batch: tuple[Tensor, list[int] | None, dict[str, Any]], chunk_rows: int | None
) -> None:
    z_RED, labels, keywords = batch
    labels_B = None if labels is None else torch.tensor(labels)
    loss, gradient_RED = loss_and_gradient(z_RED, labels_B, chunk_rows=chunk_rows, **keywords)
    z_RED.requires_grad_()
    expected = slow_loss(z_RED, labels, **keywords)
    (expected_gradient_RED,) = torch.autograd.grad(expected + 0 * z_RED.sum(), z_RED)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(gradient_RED, expected_gradient_RED, rtol=1e-10, atol=1e-11)


def weighted_case(**changes: Any) -> dict[str, Any]:
    return {"exit_weights": [0.5, 2.0], "backbone_weight": 3.0} | changes


@pytest.mark.parametrize(
    ("labels", "keywords"),
    [
        ([0, 0, 1, 2, 1], weighted_case()),
        ([0, 0, 1, 2, 1], weighted_case(exit_weights=[0.0, 2.0])),
        ([0, 0, 1, 2, 1], weighted_case(exit_weights=[0.0, 0.0])),
        ([0, 0, 1, 2, 1], weighted_case(backbone_weight=0.0)),
        ([0, 1, 2, 3, 4], weighted_case()),
        ([0, 0, 1, 2, 1], weighted_case(backbone_contrast="backbone")),
        ([0, 1, 2, 3, 4], weighted_case(backbone_contrast="backbone")),
        (None, weighted_case()),
        (None, weighted_case(backbone_contrast="backbone", num_views=5)),
    ],
)
def test_weights_singletons_and_contrast_sets_equal_the_definition(
    labels: list[int] | None, keywords: dict[str, Any]
) -> None:
    z_RED = projections(5, 3)
    labels_B = None if labels is None else torch.tensor(labels)[: 5 // keywords.get("num_views", 1)]
    loss, gradient_RED = loss_and_gradient(z_RED, labels_B, **keywords)
    z_RED.requires_grad_()
    expected = slow_loss(z_RED, labels, **keywords)
    torch.testing.assert_close(loss, expected.detach(), rtol=1e-13, atol=0)
    torch.testing.assert_close(gradient_RED, torch.autograd.grad(expected, z_RED)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("backbone_contrast", ["all", "backbone"])
def test_gradient_passes_gradcheck(backbone_contrast: str) -> None:
    raw_RED = projections(6, 2).mul(2).requires_grad_()
    labels_B = torch.tensor([0, 1, 0, 2, 1, 0])

    def loss_of(raw_RED: Tensor) -> Tensor:
        z_RED = functional.normalize(raw_RED, dim=2)
        keywords: dict[str, Any] = weighted_case(exit_weights=[0.5], backbone_contrast=backbone_contrast)
        return selfcon_loss(z_RED, labels_B, chunk_rows=5, **keywords)

    assert torch.autograd.gradcheck(loss_of, raw_RED)


@settings(deadline=None, max_examples=30)
@given(order=st.permutations(range(6)), num_views=st.sampled_from([1, 2]))
def test_loss_ignores_the_order_of_the_batch(order: list[int], num_views: int) -> None:
    z_RED, labels_B = projections(6 * num_views, 2), torch.tensor([0, 1, 2, 0, 1, 1])
    rows = [view * 6 + image for view in range(num_views) for image in order]
    expected = selfcon_loss(z_RED, labels_B, num_views=num_views)
    torch.testing.assert_close(
        selfcon_loss(z_RED[rows], labels_B[order], num_views=num_views), expected, rtol=1e-13, atol=0
    )


@settings(deadline=None, max_examples=30)
@given(names=st.lists(st.integers(0, 2**62), min_size=3, max_size=3, unique=True))
def test_loss_ignores_the_numbering_of_the_classes(names: list[int]) -> None:
    z_RED, labels_B = projections(6, 2), torch.tensor([0, 1, 2, 0, 1, 1])
    renamed_B = torch.tensor(names)[labels_B]
    expected = selfcon_loss(z_RED, labels_B)
    torch.testing.assert_close(selfcon_loss(z_RED, renamed_B), expected, rtol=1e-13, atol=0)


@settings(deadline=None, max_examples=30)
@given(factor=st.floats(1e-6, 1e6), weights=st.lists(st.floats(0.01, 10), min_size=3, max_size=3))
def test_loss_is_invariant_to_scaling_all_weights(factor: float, weights: list[float]) -> None:
    z_RED, labels_B = projections(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    *exits, backbone = weights
    expected = selfcon_loss(z_RED, labels_B, exit_weights=exits, backbone_weight=backbone)
    scaled = [factor * weight for weight in exits]
    found = selfcon_loss(z_RED, labels_B, exit_weights=scaled, backbone_weight=factor * backbone)
    torch.testing.assert_close(found, expected, rtol=1e-12, atol=0)


def test_scalar_exit_weight_applies_to_every_exit() -> None:
    z_RED, labels_B = projections(6, 3), torch.tensor([0, 1, 2, 0, 1, 1])
    expected = selfcon_loss(z_RED, labels_B, exit_weights=[2.0, 2.0])
    assert selfcon_loss(z_RED, labels_B, exit_weights=2.0) == expected
    assert selfcon_loss(z_RED, labels_B) == selfcon_loss(z_RED, labels_B, exit_weights=(1, 1))


def test_without_exits_it_is_supcon_for_any_weight_and_contrast_set() -> None:
    z_RED, labels_B = projections(6, 1), torch.tensor([0, 1, 2, 0, 1, 1])
    expected = slow_loss(z_RED, labels_B.tolist(), exit_weights=[])
    found = selfcon_loss(z_RED, labels_B, backbone_weight=7.0, backbone_contrast="backbone")
    torch.testing.assert_close(found, expected, rtol=1e-13, atol=0)


def test_loss_is_divided_by_the_base_temperature() -> None:
    z_RED, labels_B = projections(6, 2), torch.tensor([0, 1, 2, 0, 1, 1])
    one, two = (selfcon_loss(z_RED, labels_B, base_temperature=base) for base in (0.07, 0.14))
    torch.testing.assert_close(one, 2 * two, rtol=1e-13, atol=0)


@pytest.mark.parametrize("num_images", [0, 1, 4])
@pytest.mark.parametrize("backbone_contrast", ["all", "backbone"])
def test_batch_without_positives_has_zero_loss_and_gradient(num_images: int, backbone_contrast: str) -> None:
    z_RED = projections(num_images, 1)
    labels_B = torch.arange(num_images)
    loss, gradient_RED = loss_and_gradient(z_RED, labels_B, backbone_contrast=backbone_contrast)
    assert loss == 0
    assert torch.equal(gradient_RED, torch.zeros_like(z_RED))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_arithmetic_is_at_least_float32_also_in_autocast(dtype: torch.dtype) -> None:
    z_RED, labels = projections(8, 2, dim=16).to(dtype), [0, 1, 2, 0, 1, 1, 2, 2]
    exact_RED = z_RED.double().requires_grad_()
    exact = slow_loss(exact_RED, labels, exit_weights=[1.0])
    (exact_gradient_RED,) = torch.autograd.grad(exact, exact_RED)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss, gradient_RED = loss_and_gradient(z_RED, torch.tensor(labels))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(exact.item(), rel=2e-6)
    # The gradient is computed in float32 and returned in the dtype of the projections.
    tolerance = max(1e-5, torch.finfo(dtype).eps)
    torch.testing.assert_close(gradient_RED.double(), exact_gradient_RED, rtol=tolerance, atol=tolerance)


def test_float64_stays_float64_in_autocast() -> None:
    z_RED, labels_B = projections(8, 2), torch.tensor([0, 1, 2, 0, 1, 1, 2, 2])
    expected = selfcon_loss(z_RED, labels_B)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert selfcon_loss(z_RED, labels_B) == expected


def test_labels_can_be_small_integer_types() -> None:
    z_RED, labels_B = projections(4, 2), torch.tensor([0, 1, 1, 0])
    assert selfcon_loss(z_RED, labels_B.to(torch.uint8)) == selfcon_loss(z_RED, labels_B)


def test_nan_projections_give_a_nan() -> None:
    z_RED = projections(4, 2)
    z_RED[1, 0, 0] = math.nan
    assert selfcon_loss(z_RED, torch.tensor([0, 1, 1, 0])).isnan()


class LargestTensor(TorchDispatchMode):
    """Records the number of elements of the largest tensor that is created."""

    num_elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        made = [result] if isinstance(result, Tensor) else []
        self.num_elements = max([self.num_elements, *(x.numel() for x in made)])
        return result


@pytest.mark.parametrize("labels_B", [torch.arange(300) % 7, None])
def test_largest_tensor_is_linear_in_the_number_of_rows(labels_B: Tensor | None) -> None:
    z_RED = projections(300, 2, dim=8).requires_grad_()
    make_mode: Any = LargestTensor
    with make_mode() as largest:
        selfcon_loss(z_RED, labels_B, chunk_rows=4).backward()
    assert largest.num_elements == max(z_RED.numel(), 4 * 600)


GOOD: dict[str, Any] = {"z_RED": projections(4, 2), "labels_B": torch.tensor([0, 1, 1, 0])}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_RED": projections(4, 2)[:, 0]}, r"z_RED: .* rows x exits x dimensions, got .* \[4, 4\]"),
        ({"z_RED": projections(4, 0)}, r"z_RED: .* got torch\.float64 of shape \[4, 0, 4\]"),
        ({"z_RED": torch.ones(4, 2, 1).long()}, r"z_RED: .* got torch\.int64"),
        ({"z_RED": 1.01 * projections(4, 2)}, r"z_RED: expected .* to within 0\.001, got a norm of 1\.01"),
        ({"z_RED": 0 * projections(4, 2)}, "got a norm of 0"),
        ({"z_RED": 1.02 * projections(4, 2).half()}, r"to within 0\.01, got a norm of 1\.0"),
        ({"labels_B": torch.tensor([0, 1, -1, -5])}, "labels_B: .* numbers of at least 0, got -5"),
        ({"labels_B": torch.tensor([0, 1])}, r"labels_B: .* each of 4 images, got .* \[2\]"),
        ({"labels_B": torch.tensor([[0, 1, 1, 0]])}, r"of shape \[1, 4\]"),
        ({"labels_B": torch.tensor([0.0, 1, 1, 0])}, r"got torch\.float32"),
        ({"labels_B": torch.tensor([True, True, False, False])}, r"got torch\.bool"),
        ({"num_views": 2}, "labels_B: expected an integer for each of 2 images"),
        ({"num_views": 3}, "num_views: expected a divisor of the 4 rows of z_RED, got 3"),
        ({"num_views": 0}, "num_views: .* got 0"),
        ({"temperature": 0.0}, "^temperature: expected a finite number above 0, got 0"),
        ({"temperature": math.nan}, "^temperature: .* got nan"),
        ({"base_temperature": math.inf}, "^base_temperature: .* got inf"),
        ({"exit_weights": [1.0, 2.0]}, "exit_weights: .* one for each of the 1 exits before the backbone"),
        ({"exit_weights": -1.0}, r"finite weights >= 0, not all 0, got \[-1\.0, 1\.0\]"),
        ({"exit_weights": math.nan}, "finite weights >= 0, not all 0, got"),
        ({"backbone_weight": math.inf}, "finite weights >= 0, not all 0, got"),
        ({"exit_weights": 0, "backbone_weight": 0}, "finite weights >= 0, not all 0, got"),
        ({"backbone_contrast": "exits"}, "backbone_contrast: expected all or backbone, got exits"),
        ({"chunk_rows": 0}, "chunk_rows: expected a number of anchors of at least 1, got 0"),
    ],
)  # fmt: skip
def test_invalid_arguments_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        selfcon_loss(**(GOOD | changes))


@pytest.mark.parametrize(("dtype", "scale"), [(torch.float64, 1.0009), (torch.float16, 1.009)])
def test_a_norm_within_the_tolerance_is_accepted(dtype: torch.dtype, scale: float) -> None:
    z_RED = (scale * projections(4, 2)).to(dtype)
    assert selfcon_loss(z_RED, GOOD["labels_B"]).isfinite()


# Cases: the number of images of each rank; then labels of all images, number of exits, and keywords.
SPLITS = [(9,), (7, 2), (4, 0, 5), (1, 3, 4, 1)]
BATCHES: list[tuple[list[int] | None, int, dict[str, Any]]] = [
    ([0, 1, 0, 2, 1, 3, 1, 4, 0], 3, {}),
    ([0, 1, 0, 2, 1, 3, 1, 4, 0], 1, {}),
    ([0, 1, 0, 2, 1, 3, 1, 4, 0], 2, {"num_views": 2, "chunk_rows": 3}),
    ([0, 1, 0, 2, 1, 3, 1, 4, 0], 3, weighted_case(backbone_contrast="backbone")),
    (list(range(9)), 3, weighted_case(backbone_contrast="backbone")),
    (list(range(9)), 1, {}),
    (None, 3, {"num_views": 2, "exit_weights": (0.0, 2.0)}),
    (None, 2, {"backbone_contrast": "backbone"}),
]


def share_of_every_batch(num_images: tuple[int, ...]) -> list[tuple[Tensor, Tensor]]:
    """Return the loss of this rank for each batch, and its gradient."""
    images = list(torch.arange(sum(num_images)).split(num_images))[rank()]
    found = []
    for labels, num_exits, keywords in BATCHES:
        num_views = keywords.get("num_views", 1)
        z_VBED = projections(sum(num_images) * num_views, num_exits).unflatten(0, (num_views, -1))
        labels_B = None if labels is None else torch.tensor(labels)[images]
        found.append(loss_and_gradient(z_VBED[:, images].flatten(0, 1), labels_B, **keywords))
    return found


@pytest.mark.parametrize("num_images", SPLITS, ids=lambda split: f"{len(split)}-ranks")
def test_loss_and_gradient_over_ranks_equal_one_process(num_images: tuple[int, ...]) -> None:
    of_rank = on_ranks(share_of_every_batch, len(num_images), num_images)
    for batch, (labels, num_exits, keywords) in enumerate(BATCHES):
        num_views = keywords.get("num_views", 1)
        labels_B = None if labels is None else torch.tensor(labels)
        z_RED = projections(9 * num_views, num_exits)
        expected, expected_RED = loss_and_gradient(z_RED, labels_B, **keywords)
        losses, gradients_RED = zip(*(found[batch] for found in of_rank), strict=True)
        views_first = [gradient_RED.unflatten(0, (num_views, -1)) for gradient_RED in gradients_RED]
        # The rows of a rank change the losses of all ranks; the gradient is the mean of theirs.
        together_RED = torch.cat(views_first, dim=1).flatten(0, 1) / len(num_images)
        torch.testing.assert_close(torch.stack(losses).mean(), expected, rtol=0, atol=1e-10)
        torch.testing.assert_close(together_RED, expected_RED, rtol=0, atol=1e-10)


def errors_of_invalid_arguments_on_rank_1() -> list[str]:
    off = rank() == 1
    messages = []
    for scale, label in ((1.0 + off, 0), (1.0, -3 * off)):
        with pytest.raises(ConfigError) as raised:
            selfcon_loss(scale * projections(2, 2), torch.tensor([0, label]))
        messages.append(str(raised.value))
    return messages


def test_an_invalid_argument_on_one_rank_raises_on_every_rank() -> None:
    first, second = on_ranks(errors_of_invalid_arguments_on_rank_1, 2)
    assert first == second
    assert "got a norm of 2" in first[0]
    assert "got -3" in first[1]
