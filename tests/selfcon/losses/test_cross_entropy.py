"""Shape letters as in selfcon/losses/cross_entropy.py."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from selfcon.distributed import rank
from selfcon.errors import ConfigError
from selfcon.losses.cross_entropy import exit_cross_entropy
from tests.selfcon.ranks import on_ranks

LABELS = [2, 0, 1, 1, 2, 0]


def logits(num_rows: int, num_exits: int = 3, *, num_classes: int = 4) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(num_rows, num_exits, num_classes, dtype=torch.float64, generator=generator)


def loss_and_gradient(logits_REC: Tensor, labels_B: Tensor, **keywords: Any) -> tuple[Tensor, Tensor]:
    logits_REC = logits_REC.detach().clone().requires_grad_()
    loss = exit_cross_entropy(logits_REC, labels_B, **keywords)
    return loss.detach(), torch.autograd.grad(loss, logits_REC)[0]


def slow_cross_entropy(logits_REC: Tensor, labels: list[int], *, weights: list[float]) -> float:
    """The definition, row by row; all views have the same labels."""
    rows = [(row, labels[number % len(labels)]) for number, row in enumerate(logits_REC.tolist())]
    total = 0.0
    for e, weight in enumerate(weights):
        losses = [math.log(math.fsum(map(math.exp, row[e]))) - row[e][label] for row, label in rows]
        total += weight * math.fsum(losses) / len(losses)
    return total / math.fsum(weights)


@pytest.mark.parametrize("num_views", [1, 2])
@pytest.mark.parametrize("weights", [[1.0, 1.0, 1.0], [0.5, 0.0, 2.0], [1.0, 3.0, 0.0]])
def test_loss_equals_the_definition(num_views: int, weights: list[float]) -> None:
    logits_REC = logits(6 * num_views)
    found = exit_cross_entropy(
        logits_REC,
        torch.tensor(LABELS),
        num_views=num_views,
        exit_weights=weights[:-1],
        backbone_weight=weights[-1],
    )
    expected = slow_cross_entropy(logits_REC, LABELS, weights=weights)
    assert found.item() == pytest.approx(expected, rel=1e-13)


def test_without_exits_it_is_plain_cross_entropy() -> None:
    logits_REC, labels_B = logits(6, 1), torch.tensor(LABELS)
    expected = torch.nn.CrossEntropyLoss()(logits_REC[:, 0], labels_B)
    found = exit_cross_entropy(logits_REC, labels_B, exit_weights=None, backbone_weight=7.0)
    torch.testing.assert_close(found, expected, rtol=1e-14, atol=0)


def test_gradient_passes_gradcheck() -> None:
    logits_REC = logits(6).requires_grad_()

    def loss_of(logits_REC: Tensor) -> Tensor:
        return exit_cross_entropy(logits_REC, torch.tensor(LABELS), exit_weights=[0.5, 2.0])

    assert torch.autograd.gradcheck(loss_of, logits_REC)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_arithmetic_is_at_least_float32_also_in_autocast(dtype: torch.dtype) -> None:
    logits_REC, labels_B = logits(6).to(dtype), torch.tensor(LABELS)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = exit_cross_entropy(logits_REC, labels_B)
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(exit_cross_entropy(logits_REC.double(), labels_B).item(), rel=1e-6)


def test_empty_batch_has_loss_zero() -> None:
    loss, gradient_REC = loss_and_gradient(logits(0), torch.tensor([], dtype=torch.int64))
    assert loss == 0
    assert gradient_REC.shape == (0, 3, 4)


@pytest.mark.parametrize(("num_labels", "num_views"), [(5, 1), (6, 2), (3, 4), (6, 0)])
def test_mismatched_labels_are_rejected(num_labels: int, num_views: int) -> None:
    with pytest.raises(ConfigError, match="labels_B: expected a class for each of 6 / num_views images"):
        exit_cross_entropy(logits(6), torch.zeros(num_labels, dtype=torch.int64), num_views=num_views)


def share_of_the_batch(num_images: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """Return the loss of this rank, and its gradient."""
    images = list(torch.arange(6).split(num_images))[rank()]
    logits_VBEC = logits(12).unflatten(0, (2, 6))
    mine_REC = logits_VBEC[:, images].flatten(0, 1)
    return loss_and_gradient(mine_REC, torch.tensor(LABELS)[images], num_views=2, exit_weights=[0.5, 2.0])


@pytest.mark.parametrize("num_images", [(4, 2), (1, 0, 5)], ids=["2-ranks", "3-ranks"])
def test_loss_and_gradient_over_ranks_equal_one_process(num_images: tuple[int, ...]) -> None:
    of_rank = on_ranks(share_of_the_batch, len(num_images), num_images)
    losses, gradients_REC = zip(*of_rank, strict=True)
    expected, expected_REC = loss_and_gradient(
        logits(12), torch.tensor(LABELS), num_views=2, exit_weights=[0.5, 2.0]
    )
    views_first = [gradient_REC.unflatten(0, (2, -1)) for gradient_REC in gradients_REC]
    together_REC = torch.cat(views_first, dim=1).flatten(0, 1) / len(num_images)
    torch.testing.assert_close(torch.stack(losses).mean(), expected, rtol=0, atol=1e-12)
    torch.testing.assert_close(together_REC, expected_REC, rtol=0, atol=1e-12)
