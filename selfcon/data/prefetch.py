"""Work on the items of batches in threads, ahead of whoever uses the results.

Pillow lets go of the interpreter while it decodes and resizes, so threads are enough: there is nothing to
copy between processes, and nothing to start or to end inside a cluster's worker.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

T = TypeVar("T")
R = TypeVar("R")

_BATCHES_AHEAD = 1  # while one batch is used the next is made


def in_threads(function: Callable[[T], R], batches: Iterable[Sequence[T]]) -> Iterator[list[R]]:
    """Yield the results of `function` for the items of each batch, in order.

    As many threads as torch has work on them, one batch ahead of the one that is used. The first error is
    raised where its batch would come, and what was not begun then is dropped, as when the iterator is closed.
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
