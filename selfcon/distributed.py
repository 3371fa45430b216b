"""Process-group communication of a training run. Without a process group every function is the identity.

All functions use the default process group; none creates or destroys it. Every function that communicates
must be called by every rank, in the same order.

Shape letters: R rows of this rank, N rows of all ranks in rank order, X the remaining dimensions.
"""

import time
from collections.abc import Callable, Sequence
from typing import Any, TypeVar, cast

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from selfcon.callbacks import Progress

T = TypeVar("T")

PROGRESS_INTERVAL_S = 1.0  # minimum interval of progress messages to waiting ranks


def rank() -> int:
    """Return the rank of this process in the group, 0 without one."""
    return dist.get_rank() if _in_a_group() else 0


def world_size() -> int:
    """Return the number of processes in the group, 1 without one."""
    return dist.get_world_size() if _in_a_group() else 1


def split_range(total: int) -> range:
    """Return this rank's contiguous share of `range(total)`; the lengths of shares differ by at most one.

    Rank r of W has total * r // W to total * (r + 1) // W.
    """
    return range(total * rank() // world_size(), total * (rank() + 1) // world_size())


def row_counts(num_rows: int) -> list[int]:
    """Return the `num_rows` of every rank, in rank order."""
    if world_size() == 1:
        return [num_rows]
    mine = torch.tensor([num_rows], device=_communication_device())
    counts = [torch.empty_like(mine) for _ in range(world_size())]
    dist.all_gather(counts, mine)
    return [int(count) for count in counts]


def gather_rows(x_RX: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order, shape (N, X); ranks may have different numbers of rows.

    Differentiable: the gradient of this rank's rows is that of the sum of all ranks' losses.
    """
    return x_RX if world_size() == 1 else cast(Tensor, _GatherRows.apply(x_RX))


def gather_rows_without_gradient(x_RX: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order, shape (N, X), of any dtype, detached."""
    x_RX = x_RX.detach()
    return x_RX if world_size() == 1 else _gathered(x_RX, row_counts(len(x_RX)))


def gather_rows_on_first(x_RX: Tensor) -> Tensor:
    """Return the rows of all ranks in rank order on rank 0, shape (N, X), and no rows (0, X) on the others.

    Of any dtype, detached.
    """
    x_RX = x_RX.detach()
    if world_size() == 1:
        return x_RX
    counts = row_counts(len(x_RX))
    padded = _padded(x_RX, max(counts))
    parts = [torch.empty_like(padded) for _ in counts] if rank() == 0 else None
    dist.gather(padded, parts)
    if parts is None:
        return x_RX[:0]
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def reduce_sum(x: Tensor) -> Tensor:
    """Return the elementwise sum of the ranks' `x`, bit-identical on every rank.

    Differentiable: the gradient is the sum of the gradients of all ranks.
    """
    return x if world_size() == 1 else cast(Tensor, _ReduceSum.apply(x))


def on_any_rank(flag: bool) -> bool:
    """Return whether `flag` is true on at least one rank."""
    if world_size() == 1:
        return flag
    return bool(_summed(torch.tensor(int(flag), device=_communication_device())))


def broadcast_object(value: T) -> T:
    """Return rank 0's `value` on every rank; any value that can be pickled."""
    if world_size() == 1:
        return value
    holder = [value]
    dist.broadcast_object_list(holder, src=0)
    return holder[0]


def gather_objects(value: T) -> list[T]:
    """Return the values of all ranks in rank order, on every rank; any values that can be pickled."""
    if world_size() == 1:
        return [value]
    found: list[Any] = [None] * world_size()
    dist.all_gather_object(found, value)
    return found


def run_on_first(work: Callable[[Progress], T], *, progress: Progress) -> T:
    """Call `work` on rank 0 only, and return its result on every rank.

    `work` must not communicate. Its argument is a callback for its progress, which calls `progress` on every
    rank. So the other ranks wait in short collectives that do not time out during long work, and a watchdog
    sees progress on every rank.
    """
    if world_size() == 1:
        return work(progress)
    if rank() == 0:
        result = work(_broadcast_progress(progress))
        broadcast_object((True, result))
        return result
    while True:
        is_done, message = broadcast_object((False, cast(Any, None)))
        if is_done:
            return cast(T, message)
        progress(message)


def _broadcast_progress(progress: Progress) -> Progress:
    """Return a callback that calls `progress` here, and every `PROGRESS_INTERVAL_S` on the waiting ranks."""
    sent_s = time.monotonic()

    def report(place: str) -> None:
        nonlocal sent_s
        progress(place)
        if time.monotonic() - sent_s >= PROGRESS_INTERVAL_S:
            broadcast_object((False, place))
            sent_s = time.monotonic()

    return report


class _GatherRows(torch.autograd.Function):
    # torch.distributed.nn has a deprecated version of this for equal numbers of rows only.
    @staticmethod
    def forward(ctx: Any, x_RX: Tensor) -> Tensor:
        counts = row_counts(len(x_RX))
        first = sum(counts[: rank()])
        ctx.mine = slice(first, first + len(x_RX))
        return _gathered(x_RX, counts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NX: Tensor) -> Tensor:
        return _summed(grad_NX)[ctx.mine]


class _ReduceSum(torch.autograd.Function):
    @staticmethod
    def forward(_ctx: FunctionCtx, x: Tensor) -> Tensor:
        return _summed(x)

    @staticmethod
    @once_differentiable
    def backward(_ctx: FunctionCtx, grad: Tensor) -> Tensor:
        return _summed(grad)


def _gathered(x_RX: Tensor, counts: Sequence[int]) -> Tensor:
    padded = _padded(x_RX, max(counts))
    parts = [torch.empty_like(padded) for _ in counts]
    dist.all_gather(parts, padded)
    return torch.cat([part[:count] for part, count in zip(parts, counts, strict=True)])


def _padded(x_RX: Tensor, num_rows: int) -> Tensor:
    """Pad rows: gathered tensors must have equal shapes; the padding is removed afterwards."""
    padded = x_RX.new_zeros((num_rows, *x_RX.shape[1:]))
    padded[: len(x_RX)] = x_RX
    return padded


def _summed(x: Tensor) -> Tensor:
    total = x.clone(memory_format=torch.contiguous_format)
    dist.all_reduce(total)
    return total


def _in_a_group() -> bool:
    return dist.is_available() and dist.is_initialized()


def _communication_device() -> torch.device:
    """Device of a small tensor for communication: NCCL needs the GPU of the rank."""
    if dist.get_backend() == "nccl":
        return torch.device("cuda", torch.cuda.current_device())
    return torch.device("cpu")
