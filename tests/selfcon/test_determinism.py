from contextlib import suppress

import pytest
import torch

from selfcon.determinism import deterministic_kernels

ON_GPUS = torch.cuda.is_available()


def settings() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


@pytest.mark.parametrize("before", [(False, False), (True, True)])
def test_sums_have_a_fixed_order_on_a_gpu_for_the_time_of_the_context(before: tuple[bool, bool]) -> None:
    enabled, warn_only = before
    try:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        with suppress(KeyError), deterministic_kernels():
            assert settings() == ((True, False) if ON_GPUS else before)
            raise KeyError
        assert settings() == before
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(not ON_GPUS, reason="needs a GPU")
def test_a_sum_by_index_has_the_same_bits_each_time() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    rows_N1 = torch.randn(200_000, 1, device="cuda", generator=generator)
    place_N = torch.randint(7, (len(rows_N1),), device="cuda", generator=generator)
    with deterministic_kernels():
        sums = [torch.zeros(7, 1, device="cuda").index_add(0, place_N, rows_N1) for _ in range(5)]
    assert all(torch.equal(found, sums[0]) for found in sums)
