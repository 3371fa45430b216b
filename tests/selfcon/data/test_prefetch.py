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


def test_results_come_in_the_order_of_their_items() -> None:
    def late(number: int) -> int:
        time.sleep(0.001 * (number % 3))
        return number**2

    batches = [[5, 4, 3], [], [2], [1, 0, 9, 8]]
    assert list(in_threads(late, batches)) == [[n**2 for n in batch] for batch in batches]


def test_as_many_threads_as_torch_has_work() -> None:
    # None passes before three are there, and a fourth would break the barrier's turn.
    together = threading.Barrier(3, timeout=30)
    names = next(in_threads(lambda _: (together.wait(), threading.current_thread().name)[1], [range(3)]))
    assert len(set(names)) == 3
    many = next(in_threads(lambda _: threading.current_thread().name, [range(50)]))
    assert len(set(many)) <= 3


def test_one_batch_is_made_ahead_and_no_more() -> None:
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


def test_an_error_is_raised_where_its_batch_would_come() -> None:
    results = in_threads(lambda number: 6 // number, [[1, 2], [3, 0], [6]])
    assert next(results) == [6, 3]
    with pytest.raises(ZeroDivisionError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_no_thread_outlives_the_iterator() -> None:
    results = in_threads(lambda number: number, [[number] for number in range(100)])
    next(results)
    assert any(thread.name.startswith("images") for thread in threading.enumerate())
    results.close()  # type: ignore[attr-defined]
    assert not any(thread.name.startswith("images") for thread in threading.enumerate())
