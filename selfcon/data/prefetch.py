"""Prefetching of batches in threads.

Pillow releases the interpreter lock while it decodes and resizes, so threads suffice, and no processes have
to be managed inside a worker of a cluster.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_BATCHES_AHEAD = 1  # one batch is prepared while the previous one is used


def in_threads(function: Callable[[T], R], batches: Iterable[Sequence[T]]) -> Iterator[list[R]]:
    """Yield the results of `function` for the items of each batch, in order.

    Uses as many threads as torch, one batch ahead. The first error is raised in place of its batch; work that
    has not started is then cancelled, as when the iterator is closed.
    """
    pending: deque[list[Future[R]]] = deque()
    pool = ThreadPoolExecutor(torch.get_num_threads(), thread_name_prefix="images")
    try:
        for batch in batches:
            pending.append([pool.submit(function, item) for item in batch])
            if len(pending) > _BATCHES_AHEAD:
                yield [future.result() for future in pending.popleft()]
        while pending:
            yield [future.result() for future in pending.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)
