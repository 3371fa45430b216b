import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfcon.data.splits import stratified
from selfcon.errors import ConfigError

LABELS_N = torch.arange(1000).remainder(7).sub(3).abs()  # 0, 1, 2, 3 with 1, 2, 2 and 2 sevenths


@given(
    class_sizes=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**63),
)
def test_each_image_is_on_one_side_and_each_class_on_both_in_its_share(
    class_sizes: list[int], fraction: float, seed: int
) -> None:
    labels_N = torch.arange(len(class_sizes)).repeat_interleave(torch.tensor(class_sizes)).flip(0)
    stay, off = stratified(labels_N, fraction=fraction, seed=seed)
    assert sorted([*stay.tolist(), *off.tolist()]) == list(range(len(labels_N)))
    assert stay.tolist() == sorted(stay.tolist())
    assert off.tolist() == sorted(off.tolist())
    expected = [min(max(round(fraction * size), 1), size - 1) for size in class_sizes]
    assert torch.bincount(labels_N[off], minlength=len(class_sizes)).tolist() == expected


def test_a_split_depends_on_the_seed_and_on_nothing_else() -> None:
    first, again, other = (stratified(LABELS_N, fraction=0.2, seed=seed)[1] for seed in (3, 3, 4))
    torch.manual_seed(99)
    assert torch.equal(first, again)
    # A fifth of the split-off fifth is expected to be the same.
    assert len(set(first.tolist()) & set(other.tolist())) < 80


def test_a_larger_fraction_splits_off_the_same_images_and_more() -> None:
    parts = [set(stratified(LABELS_N, fraction=fraction, seed=0)[1].tolist()) for fraction in (0.1, 0.2, 0.5)]
    assert parts[0] < parts[1] < parts[2]


def test_every_image_has_the_same_chance() -> None:
    counts_N = torch.zeros(1000, dtype=torch.int64)
    for seed in range(300):
        counts_N[stratified(LABELS_N, fraction=0.2, seed=seed)[1]] += 1
    # Binomial with mean 60 and standard deviation 6.9.
    assert 60 - 5 * 6.9 < counts_N.min() < counts_N.max() < 60 + 5 * 6.9


def test_a_class_with_one_image_cannot_be_split() -> None:
    with pytest.raises(ConfigError) as caught:
        stratified(torch.tensor([0, 0, 4, 1, 1]), fraction=0.5, seed=0)
    expected = "two images or more of each class, so that it can be split, got one image of class 4"
    assert str(caught.value) == f"data.dataset: expected {expected}"
