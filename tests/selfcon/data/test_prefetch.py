import threading
import time
from collections.abc import Iterator

import pytest
import torch

from selfcon.data.prefetch import in_threads


@pytest.fixture(autouse=True)
def three_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


def test_results_are_in_the_order_of_the_items() -> None:
    def late(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number**2

    batches = [[5, 4, 3], [], [2], [1, 0, 9, 8]]
    assert list(in_threads(late, batches)) == [[n**2 for n in batch] for batch in batches]


def test_number_of_threads_is_that_of_torch() -> None:
    # The barrier opens for exactly three threads.
    together = threading.Barrier(3, timeout=30)
    names = next(in_threads(lambda _: (together.wait(), threading.current_thread().name)[1], [range(3)]))
    assert len(set(names)) == 3
    many = next(in_threads(lambda _: threading.current_thread().name, [range(50)]))
    assert len(set(many)) <= 3


def test_exactly_one_batch_is_prefetched() -> None:
    taken: list[int] = []

    def batches() -> Iterator[list[int]]:
        for number in range(10):
            taken.append(number)
            yield [number]

    results = in_threads(lambda number: number, batches())
    assert taken == []
    assert next(results) == [0]
    assert taken == [0, 1]
    assert next(results) == [1]
    assert taken == [0, 1, 2]


def test_error_is_raised_in_place_of_its_batch() -> None:
    results = in_threads(lambda number: 6 // number, [[1, 2], [3, 0], [6]])
    assert next(results) == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_threads_end_with_the_iterator() -> None:
    results = in_threads(lambda number: number, [[number] for number in range(100)])
    next(results)
    assert any(thread.name.startswith("images") for thread in threading.enumerate())
    results.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("images") for thread in threading.enumerate())
