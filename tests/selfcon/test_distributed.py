import time
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from selfcon import distributed
from selfcon.callbacks import Progress, ignore_progress
from tests.selfcon.ranks import on_ranks

ROWS = (2, 0, 5, 1)


def whole() -> Tensor:
    """The rows of all four ranks."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sum(ROWS), 2, 3, dtype=torch.float64, generator=generator)


def gradient_of(rank: int) -> Tensor:
    """The factors of the gathered rows in the loss of a rank, which are their gradient."""
    generator = torch.Generator().manual_seed(rank + 1)
    return torch.randn(sum(ROWS), 2, 3, dtype=torch.float64, generator=generator)


def gather_uneven_rows() -> tuple[Tensor, Tensor]:
    mine = whole().split(ROWS)[distributed.rank()].clone().requires_grad_()
    rows = distributed.gather_rows(mine)
    (rows * gradient_of(distributed.rank())).sum().backward()
    assert mine.grad is not None
    return rows.detach(), mine.grad


def gather_every_dtype() -> list[Tensor]:
    rank = distributed.rank()
    by_dtype = [torch.full((rank, 2), rank % 2).to(dtype) for dtype in (torch.int64, torch.uint8, torch.bool)]
    return [distributed.gather_rows_without_gradient(x) for x in by_dtype]


def gather_on_first() -> list[Tensor]:
    mine = whole().split(ROWS)[distributed.rank()].clone().requires_grad_()
    return [distributed.gather_rows_on_first(rows) for rows in (mine, mine.detach() > 0)]


def gather_no_rows() -> tuple[Tensor, Tensor]:
    mine = torch.zeros(0, 3, requires_grad=True)
    rows = distributed.gather_rows(mine)
    rows.sum().backward()
    assert mine.grad is not None
    return rows.detach(), mine.grad


def reduce_with_gradient() -> tuple[Tensor, Tensor]:
    mine = torch.tensor([1.0, 10.0]).mul(distributed.rank() + 1).requires_grad_()
    total = distributed.reduce_sum(mine)
    (total * torch.tensor([1.0, distributed.rank()])).sum().backward()
    assert mine.grad is not None
    return total.detach(), mine.grad


def communicate() -> dict[str, Any]:
    rank = distributed.rank()
    return {
        "rank": rank,
        "world_size": distributed.world_size(),
        "counts": distributed.row_counts(10 * rank),
        "object": distributed.broadcast_object({"from": rank}),
        "share": list(distributed.split_range(10)),
        "small_share": list(distributed.split_range(2)),
        "no_gradient": distributed.gather_rows_without_gradient(
            torch.ones(1, requires_grad=True)
        ).requires_grad,
    }


def work_longer_than_the_timeout_of_a_collective() -> dict[str, Any]:
    """Rank 0 works for 4 seconds with a timeout of 2 seconds."""
    dist.set_timeout(timedelta(seconds=2))
    places: list[str] = []

    def work(progress: Progress) -> dict[str, int]:
        for item in range(8):
            time.sleep(0.5)
            progress(f"item {item}")
        return {"by": distributed.rank()}

    return {"result": distributed.run_on_first(work, progress=places.append), "places": places}


def everything() -> dict[str, Any]:
    return {
        "gathered": gather_uneven_rows(),
        "dtypes": gather_every_dtype(),
        "on_first": gather_on_first(),
        "nothing": gather_no_rows(),
        "reduced": reduce_with_gradient(),
        **communicate(),
    }


@pytest.fixture(scope="module")
def of_rank() -> list[dict[str, Any]]:
    """The results of four ranks."""
    found: list[dict[str, Any]] = on_ranks(everything, 4)
    return found


def test_gather_rows_returns_all_rows_in_rank_order_on_every_rank(of_rank: list[dict[str, Any]]) -> None:
    for found in of_rank:
        torch.testing.assert_close(found["gathered"][0], whole(), rtol=0, atol=0)


def test_gradient_of_gathered_rows_is_the_sum_over_ranks(of_rank: list[dict[str, Any]]) -> None:
    expected = torch.stack([gradient_of(rank) for rank in range(4)]).sum(dim=0)
    found = torch.cat([found["gathered"][1] for found in of_rank])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_gathering_without_gradient_keeps_integers_and_booleans(of_rank: list[dict[str, Any]]) -> None:
    expected = torch.tensor([1, 0, 0, 1, 1, 1])[:, None].expand(6, 2)
    for found in of_rank:
        assert [x.dtype for x in found["dtypes"]] == [torch.int64, torch.uint8, torch.bool]
        assert all(torch.equal(x.long(), expected) for x in found["dtypes"])
        assert not found["no_gradient"]


def test_gather_rows_on_first_returns_rows_only_on_the_first_rank(
    of_rank: list[dict[str, Any]],
) -> None:
    first, *others = (found["on_first"] for found in of_rank)
    assert torch.equal(first[0], whole())
    assert torch.equal(first[1], whole() > 0)
    assert not first[0].requires_grad
    assert all(x.shape == (0, 2, 3) for found in others for x in found)


def test_gathering_works_if_no_rank_has_rows(of_rank: list[dict[str, Any]]) -> None:
    assert all(x.shape == (0, 3) for found in of_rank for x in found["nothing"])


def test_reduce_sum_and_its_gradient_are_identical_on_every_rank(of_rank: list[dict[str, Any]]) -> None:
    for found in of_rank:
        assert found["reduced"][0].tolist() == [10.0, 100.0]
        assert found["reduced"][1].tolist() == [4.0, 6.0]


def test_rank_world_size_and_row_counts_are_known_on_every_rank(of_rank: list[dict[str, Any]]) -> None:
    assert [found["rank"] for found in of_rank] == [0, 1, 2, 3]
    assert [found["world_size"] for found in of_rank] == [4] * 4
    assert [found["counts"] for found in of_rank] == [[0, 10, 20, 30]] * 4


def test_broadcast_object_returns_the_object_of_rank_0(of_rank: list[dict[str, Any]]) -> None:
    assert [found["object"] for found in of_rank] == [{"from": 0}] * 4


def test_waiting_ranks_do_not_time_out_while_the_first_makes_progress() -> None:
    first, *others = on_ranks(work_longer_than_the_timeout_of_a_collective, 3)
    assert [found["result"] for found in (first, *others)] == [{"by": 0}] * 3
    assert first["places"] == [f"item {item}" for item in range(8)]
    for found in others:  # a subset of the progress of the first rank, in order
        assert 2 <= len(found["places"]) < 8
        assert found["places"] == sorted(set(found["places"]))


def test_shares_of_ranks_are_contiguous_and_complete(of_rank: list[dict[str, Any]]) -> None:
    assert [found["share"] for found in of_rank] == [[0, 1], [2, 3, 4], [5, 6], [7, 8, 9]]
    assert [found["small_share"] for found in of_rank] == [[], [0], [], [1]]


def test_without_a_group_every_function_is_the_identity() -> None:
    x = torch.ones(3, 2, requires_grad=True)
    assert (distributed.rank(), distributed.world_size()) == (0, 1)
    assert distributed.gather_rows(x) is x
    assert distributed.reduce_sum(x) is x
    assert torch.equal(distributed.gather_rows_on_first(x), x)
    assert distributed.row_counts(3) == [3]
    assert distributed.split_range(5) == range(5)
    value = object()
    assert distributed.broadcast_object(value) is value
    assert distributed.run_on_first(lambda progress: [progress, x], progress=ignore_progress) == [
        ignore_progress,
        x,
    ]
    rows = distributed.gather_rows_without_gradient(x)
    assert torch.equal(rows, x)
    assert not rows.requires_grad
