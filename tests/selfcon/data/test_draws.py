import itertools
import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from selfcon.data.draws import Stream, permutation, uniform

# Fixed seeds make the tests deterministic; a poor hash differs by far more than five standard deviations.
SIGMAS = 5.0
NUM = 2**17

WORDS = st.tuples(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**31),
    st.integers(0, 2**40),
    st.integers(0, 3),
    st.integers(-1, 99),
)


def one_each(seed: int, epoch: int, indices_N: Tensor, view: int, stream: int) -> Tensor:
    return uniform(seed, epoch, indices_N, view=view, stream=stream, count=1)[:, 0]


def finalised(z: int) -> int:
    """The published finaliser of SplitMix64, in unsigned arithmetic."""
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % 2**64
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % 2**64
    return z ^ (z >> 31)


def slow_uniform(words: tuple[int, int, int, int, int], draw: int) -> float:
    """One draw in Python integers, without tensors."""
    seed, epoch, index, view, stream = words
    gamma = 0x9E3779B97F4A7C15
    state = 0
    for word in (seed, epoch, view, stream):
        state = finalised(state ^ (word + 1) * gamma % 2**64)
    sample = finalised(index * gamma % 2**64 ^ state)
    return (finalised((sample + (draw + 1) * gamma) % 2**64) >> 11) / 2**53


# The word that varies while the others are fixed: N draws each, in blocks of 64 samples from epochs on.
SEQUENCES: dict[str, Callable[[], Tensor]] = {
    "indices": lambda: one_each(0, 0, torch.arange(NUM), 0, 0),
    "distant indices": lambda: one_each(0, 0, torch.arange(NUM) << 24, 0, 0),
    "draws of one sample": lambda: uniform(
        0, 0, torch.zeros(1, dtype=torch.int64), view=0, stream=0, count=NUM
    )[0],
    "epochs": lambda: torch.cat([one_each(0, epoch, torch.arange(64), 0, 0) for epoch in range(NUM // 64)]),
    "seeds": lambda: torch.cat([one_each(seed, 0, torch.arange(64), 0, 0) for seed in range(NUM // 64)]),
    "streams": lambda: torch.cat(
        [one_each(0, 0, torch.arange(64), 0, stream) for stream in range(NUM // 64)]
    ),
}


@pytest.fixture(scope="module", params=SEQUENCES, name="draws_N")
def fixture_draws(request: pytest.FixtureRequest) -> Tensor:
    return SEQUENCES[request.param]()


def test_draws_never_change() -> None:
    first = uniform(0, 0, torch.arange(2), view=0, stream=0, count=2)
    assert [value.hex() for value in first.flatten().tolist()] == [
        "0x1.f8d869313bd49p-1", "0x1.7dbec3fa5fdb0p-5", "0x1.62bb3ed7fde88p-4", "0x1.83cf73d8ee9ccp-2",
    ]  # fmt: skip
    other = uniform(7, 3, torch.tensor([41, 1796]), view=1, stream=6, count=1)
    assert [value.hex() for value in other.flatten().tolist()] == [
        "0x1.d7baedc23e786p-1",
        "0x1.310d1db32d946p-2",
    ]
    assert permutation(0, 0, 10).tolist() == [3, 4, 9, 5, 2, 1, 8, 0, 7, 6]
    assert permutation(7, 3, 10).tolist() == [5, 8, 2, 7, 4, 0, 9, 3, 6, 1]


def test_the_numbers_of_the_streams_never_change() -> None:
    names = [
        "CROP_SHAPE", "CROP_PLACE", "FLIP", "JITTER", "JITTER_FACTORS", "JITTER_ORDER", "GREY", "SPLIT",
        "DISTORTION",
    ]  # fmt: skip
    assert {stream.name: stream.value for stream in Stream} == {
        "ORDER": -1,
        **{name: number for number, name in enumerate(names)},
    }


def test_finaliser_is_that_of_splitmix64() -> None:
    # The first outputs of SplitMix64 from the seed 1234567, as widely used to check implementations.
    outputs = [finalised((1234567 + n * 0x9E3779B97F4A7C15) % 2**64) for n in range(1, 6)]
    assert outputs == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
        4593380528125082431,
        16408922859458223821,
    ]


@given(WORDS)
def test_draws_equal_unsigned_arithmetic(words: tuple[int, int, int, int, int]) -> None:
    seed, epoch, index, view, stream = words
    found_NK = uniform(seed, epoch, torch.tensor([index, index + 1]), view=view, stream=stream, count=3)
    expected = [[slow_uniform((seed, epoch, index + n, view, stream), k) for k in range(3)] for n in range(2)]
    assert found_NK.tolist() == expected


@settings(max_examples=30)
@given(indices=st.lists(st.integers(0, 999), min_size=1, max_size=50), count=st.integers(1, 5))
def test_draws_do_not_depend_on_the_batch(indices: list[int], count: int) -> None:
    whole_NK = uniform(3, 1, torch.arange(1000), view=1, stream=2, count=5)
    batch_BK = uniform(3, 1, torch.tensor(indices), view=1, stream=2, count=count)
    assert torch.equal(batch_BK, whole_NK[indices, :count])


@pytest.mark.parametrize("changed", range(4))
def test_draws_depend_on_every_word(changed: int) -> None:
    words = [0, 0, 0, 0]
    words[changed] = 1
    (seed, epoch, view, stream), indices_N = words, torch.arange(1000)
    before_N, after_N = one_each(0, 0, indices_N, 0, 0), one_each(seed, epoch, indices_N, view, stream)
    assert not (before_N == after_N).any()
    correlation = torch.corrcoef(torch.stack((before_N, after_N)))[0, 1].item()
    assert abs(correlation) < SIGMAS / math.sqrt(1000)


def test_words_are_not_interchangeable() -> None:
    keys = list(itertools.product(range(6), repeat=4))
    draws = [one_each(seed, epoch, torch.arange(6), view, stream) for seed, epoch, view, stream in keys]
    assert len(torch.cat(draws).unique()) == 6**5


def test_seed_is_taken_modulo_two_to_the_64() -> None:
    indices_N = torch.arange(5)
    assert torch.equal(one_each(2**64 + 3, 0, indices_N, 0, 0), one_each(3, 0, indices_N, 0, 0))
    assert not torch.equal(one_each(2**64 - 1, 0, indices_N, 0, 0), one_each(2**63 - 1, 0, indices_N, 0, 0))


def test_draws_are_below_one_with_53_bits(draws_N: Tensor) -> None:
    assert draws_N.dtype == torch.float64
    assert 0 <= draws_N.min() < 1e-3
    assert 1 - 1e-3 < draws_N.max() < 1
    assert torch.equal((draws_N * 2**53).to(torch.int64).to(torch.float64), draws_N * 2**53)


def test_draws_do_not_repeat(draws_N: Tensor) -> None:
    # The probability of two equal draws among 2^17 of 2^53 is one in a million.
    assert len(draws_N.unique()) == NUM


@pytest.mark.parametrize("power", [1, 2, 3, 4])
def test_draws_have_the_moments_of_the_uniform_distribution(draws_N: Tensor, power: int) -> None:
    expected, variance = 1 / (power + 1), 1 / (2 * power + 1) - 1 / (power + 1) ** 2
    error = (draws_N**power).mean().item() - expected
    assert abs(error) < SIGMAS * math.sqrt(variance / NUM)


def chi_square_is_plausible(counts: Tensor) -> bool:
    """Chi-square test of counts of equally likely cells, for too much and too little variation."""
    expected, freedom = counts.sum() / len(counts), len(counts) - 1
    statistic = ((counts - expected).square() / expected).sum().item()
    return abs(statistic - freedom) < SIGMAS * math.sqrt(2 * freedom)


@pytest.mark.parametrize("bits", [0, 12, 30, 43])
def test_high_and_low_bits_of_draws_are_uniform(draws_N: Tensor, bits: int) -> None:
    bins_N = ((draws_N * 2**bits) % 1 * 1024).long()
    assert chi_square_is_plausible(torch.bincount(bins_N, minlength=1024))


@pytest.mark.parametrize("distance", [1, 2, 64, 128])
def test_neighbouring_draws_are_independent(draws_N: Tensor, distance: int) -> None:
    here_N, there_N = draws_N[:-distance], draws_N[distance:]
    correlation = torch.corrcoef(torch.stack((here_N, there_N)))[0, 1].item()
    assert abs(correlation) < SIGMAS / math.sqrt(NUM)
    cells_N = (here_N * 32).long() * 32 + (there_N * 32).long()
    assert chi_square_is_plausible(torch.bincount(cells_N, minlength=1024))


def test_one_bit_of_the_index_flips_half_of_the_bits_of_a_draw() -> None:
    indices_N = torch.arange(1000)
    before_N = (one_each(0, 0, indices_N, 0, 0) * 2**53).long()
    for bit in range(40):
        after_N = (one_each(0, 0, indices_N ^ (1 << bit), 0, 0) * 2**53).long()
        turned = ((before_N ^ after_N)[:, None] >> torch.arange(53)) & 1
        assert abs(turned.double().mean().item() - 0.5) < SIGMAS * 0.5 / math.sqrt(turned.numel())


@pytest.mark.parametrize("num_samples", [0, 1, 2, 1000])
def test_permutation_has_every_sample_once(num_samples: int) -> None:
    order_N = permutation(5, 2, num_samples)
    assert order_N.dtype == torch.int64
    assert torch.equal(order_N.sort().values, torch.arange(num_samples))


def test_orders_differ_between_epochs_and_seeds() -> None:
    orders = [permutation(seed, epoch, 100) for seed in range(5) for epoch in range(5)]
    assert len({tuple(order_N.tolist()) for order_N in orders}) == 25
    assert torch.equal(permutation(4, 4, 100), orders[-1])


def test_all_orders_are_equally_likely() -> None:
    orders = [tuple(permutation(1, epoch, 4).tolist()) for epoch in range(4800)]
    counts = [orders.count(order) for order in itertools.permutations(range(4))]
    assert chi_square_is_plausible(torch.tensor(counts))


def test_every_sample_occurs_at_every_position() -> None:
    orders_EN = torch.stack([permutation(2, epoch, 50) for epoch in range(2000)])
    counts_NN = torch.stack([torch.bincount(places_E, minlength=50) for places_E in orders_EN.unbind(dim=1)])
    assert chi_square_is_plausible(counts_NN.flatten())


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_gpu_draws_are_bit_identical() -> None:
    indices_N = torch.arange(10_000)
    found_NK = uniform(9, 4, indices_N.cuda(), view=1, stream=3, count=5)
    assert torch.equal(found_NK.cpu(), uniform(9, 4, indices_N, view=1, stream=3, count=5))
