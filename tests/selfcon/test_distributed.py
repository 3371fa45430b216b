import time
from datetime import timedelta
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from selfcon import distributed
from selfcon.callbacks import Progress, unwatched
from tests.selfcon.ranks import on_ranks

ROWS = (2, 0, 5, 1)


def whole() -> Tensor:
    """The rows of all four ranks."""
    generator = torch.Generator().manual_seed(0)
    return torch.randn(sum(ROWS), 2, 3, dtype=torch.float64, generator=generator)


def sent_back(rank: int) -> Tensor:
    """What a rank's loss multiplies the gathered rows with: the gradient that it sends back to them."""
    generator = torch.Generator().manual_seed(rank + 1)
    return torch.randn(sum(ROWS), 2, 3, dtype=torch.float64, generator=generator)


def gather_uneven_rows() -> tuple[Tensor, Tensor]:
    mine = whole().split(ROWS)[distributed.rank()].clone().requires_grad_()
    rows = distributed.gather_rows(mine)
    (rows * sent_back(distributed.rank())).sum().backward()
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


def reduce_and_send_back() -> tuple[Tensor, Tensor]:
    mine = torch.tensor([1.0, 10.0]).mul(distributed.rank() + 1).requires_grad_()
    total = distributed.reduce_sum(mine)
    (total * torch.tensor([1.0, distributed.rank()])).sum().backward()
    assert mine.grad is not None
    return total.detach(), mine.grad


def talk() -> dict[str, Any]:
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


def work_for_longer_than_a_collective_may_take() -> dict[str, Any]:
    """Rank 0 works for 4 seconds, where nobody may wait for more than 2."""
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
        "reduced": reduce_and_send_back(),
        **talk(),
    }


@pytest.fixture(scope="module")
def of_rank() -> list[dict[str, Any]]:
    """What each of four ranks found."""
    found: list[dict[str, Any]] = on_ranks(everything, 4)
    return found


def test_gathering_gives_every_rank_all_rows_in_rank_order(of_rank: list[dict[str, Any]]) -> None:
    for found in of_rank:
        torch.testing.assert_close(found["gathered"][0], whole(), rtol=0, atol=0)


def test_gathering_sends_each_row_the_sum_of_what_all_ranks_send_back(of_rank: list[dict[str, Any]]) -> None:
    expected = torch.stack([sent_back(rank) for rank in range(4)]).sum(dim=0)
    found = torch.cat([found["gathered"][1] for found in of_rank])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)


def test_gathering_without_gradient_keeps_integers_and_booleans(of_rank: list[dict[str, Any]]) -> None:
    expected = torch.tensor([1, 0, 0, 1, 1, 1])[:, None].expand(6, 2)
    for found in of_rank:
        assert [x.dtype for x in found["dtypes"]] == [torch.int64, torch.uint8, torch.bool]
        assert all(torch.equal(x.long(), expected) for x in found["dtypes"])
        assert not found["no_gradient"]


def test_gathering_on_the_first_rank_gives_it_all_rows_and_the_others_none(
    of_rank: list[dict[str, Any]],
) -> None:
    first, *others = (found["on_first"] for found in of_rank)
    assert torch.equal(first[0], whole())
    assert torch.equal(first[1], whole() > 0)
    assert not first[0].requires_grad
    assert all(x.shape == (0, 2, 3) for found in others for x in found)


def test_gathering_works_when_no_rank_has_a_row(of_rank: list[dict[str, Any]]) -> None:
    assert all(x.shape == (0, 3) for found in of_rank for x in found["nothing"])


def test_a_sum_over_ranks_and_its_gradient_are_the_same_everywhere(of_rank: list[dict[str, Any]]) -> None:
    for found in of_rank:
        assert found["reduced"][0].tolist() == [10.0, 100.0]
        assert found["reduced"][1].tolist() == [4.0, 6.0]


def test_ranks_know_their_number_and_each_others_rows(of_rank: list[dict[str, Any]]) -> None:
    assert [found["rank"] for found in of_rank] == [0, 1, 2, 3]
    assert [found["world_size"] for found in of_rank] == [4] * 4
    assert [found["counts"] for found in of_rank] == [[0, 10, 20, 30]] * 4


def test_every_rank_gets_the_object_of_rank_0(of_rank: list[dict[str, Any]]) -> None:
    assert [found["object"] for found in of_rank] == [{"from": 0}] * 4


def test_ranks_wait_for_the_first_one_as_long_as_it_gets_on() -> None:
    first, *others = on_ranks(work_for_longer_than_a_collective_may_take, 3)
    assert [found["result"] for found in (first, *others)] == [{"by": 0}] * 3
    assert first["places"] == [f"item {item}" for item in range(8)]
    for found in others:  # some of what the first one was told, in order
        assert 2 <= len(found["places"]) < 8
        assert found["places"] == sorted(set(found["places"]))


def test_the_ranks_shares_make_up_the_whole_in_order(of_rank: list[dict[str, Any]]) -> None:
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
    assert distributed.run_on_first(lambda progress: [progress, x], progress=unwatched) == [unwatched, x]
    rows = distributed.gather_rows_without_gradient(x)
    assert torch.equal(rows, x)
    assert not rows.requires_grad
