import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from selfcon.config import DataConfig
from selfcon.data.source import ArraySource, Part
from selfcon.data.splits import divide, stratified
from selfcon.errors import ConfigError

LABELS_N = torch.arange(1000).remainder(7).sub(3).abs()  # 0, 1, 2, 3 with 1, 2, 2 and 2 sevenths


@given(
    class_sizes=st.lists(st.integers(2, 40), min_size=1, max_size=6),
    fraction=st.floats(0.001, 0.999),
    seed=st.integers(0, 2**63),
)
def test_split_is_disjoint_complete_and_stratified(
    class_sizes: list[int], fraction: float, seed: int
) -> None:
    labels_N = torch.arange(len(class_sizes)).repeat_interleave(torch.tensor(class_sizes)).flip(0)
    stay, off = stratified(labels_N, fraction=fraction, seed=seed)
    assert sorted([*stay.tolist(), *off.tolist()]) == list(range(len(labels_N)))
    assert stay.tolist() == sorted(stay.tolist())
    assert off.tolist() == sorted(off.tolist())
    expected = [min(max(round(fraction * size), 1), size - 1) for size in class_sizes]
    assert torch.bincount(labels_N[off], minlength=len(class_sizes)).tolist() == expected


def test_split_depends_only_on_the_seed() -> None:
    first, again, other = (stratified(LABELS_N, fraction=0.2, seed=seed)[1] for seed in (3, 3, 4))
    torch.manual_seed(99)
    assert torch.equal(first, again)
    # Two random splits of 20 % are expected to share a fifth of their images.
    assert len(set(first.tolist()) & set(other.tolist())) < 80


def test_split_with_a_larger_fraction_is_a_superset() -> None:
    parts = [set(stratified(LABELS_N, fraction=fraction, seed=0)[1].tolist()) for fraction in (0.1, 0.2, 0.5)]
    assert parts[0] < parts[1] < parts[2]


def test_every_image_is_selected_with_equal_probability() -> None:
    counts_N = torch.zeros(1000, dtype=torch.int64)
    for seed in range(300):
        counts_N[stratified(LABELS_N, fraction=0.2, seed=seed)[1]] += 1
    # Binomial with mean 60 and standard deviation 6.9.
    assert 60 - 5 * 6.9 < counts_N.min() < counts_N.max() < 60 + 5 * 6.9


def source(given: dict[str, int] | None = None, *, sizes: tuple[int, ...] = (20, 30)) -> ArraySource:
    """Return a training split with `sizes` images per class, and the `given` splits."""
    counts: dict[Part, tuple[int, ...]] = {"train": sizes}
    counts |= {part: (size,) * len(sizes) for part, size in (given or {}).items()}  # type: ignore[misc]
    labels = [label for part in counts.values() for label, count in enumerate(part) for _ in range(count)]
    ranges, first = dict[Part, range](), 0
    for part, numbers in counts.items():
        ranges[part] = range(first, first := first + sum(numbers))
    return ArraySource(
        labels_N=torch.tensor(labels),
        class_names=("ant", "bee", "cow")[: len(sizes)],
        given=ranges,
        image_size=8,
        images_NCHW=torch.zeros(len(labels), 3, 8, 8, dtype=torch.uint8),
    )


def divided(found: ArraySource, **fields: float) -> dict[Part, list[int]]:
    members, _ = divide(found, DataConfig(**fields))  # type: ignore[arg-type]
    return {part: numbers_N.tolist() for part, numbers_N in members.items()}


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ({}, {"train": 36, "validation": 4, "test": 10}),
        ({"test": 2}, {"train": 45, "validation": 5, "test": 4}),
        ({"validation": 3}, {"train": 40, "validation": 6, "test": 10}),
        ({"validation": 3, "test": 2}, {"train": 50, "validation": 6, "test": 4}),
    ],
)
def test_missing_splits_are_taken_from_the_training_split(
    given: dict[str, int], sizes: dict[str, int]
) -> None:
    found = source(given)
    members = divided(found)
    assert {part: len(numbers) for part, numbers in members.items()} == sizes
    assert sorted(number for numbers in members.values() for number in numbers) == list(
        range(len(found.labels_N))
    )
    for part in given:
        assert members[part] == list(found.given[part])  # type: ignore[index]


def test_no_setting_changes_the_test_split() -> None:
    first = divided(source())["test"]
    assert divided(source(), split_seed=5, validation_fraction=0.4)["test"] == first
    assert divided(source({"validation": 3}))["test"] == first


@pytest.mark.parametrize(
    ("given", "decided"),
    [
        (
            {},
            {"test_fraction": 0.2, "test_seed": 20230207, "validation_fraction": 0.3, "split_seed": 4},
        ),
        ({"test": 2}, {"validation_fraction": 0.3, "split_seed": 4}),
        ({"validation": 2}, {"test_fraction": 0.2, "test_seed": 20230207}),
        ({"validation": 2, "test": 2}, {}),
    ],
)
def test_parameters_of_the_split_are_returned(given: dict[str, int], decided: dict[str, float]) -> None:
    assert divide(source(given), DataConfig(validation_fraction=0.3, split_seed=4))[1] == decided


@pytest.mark.parametrize(
    ("given", "sizes", "line"),
    [
        (
            {},
            (20, 2),
            "at least 3 training images of each class, one for each of training, validation, test, "
            "got 2 of bee",
        ),
        (
            {"test": 2},
            (1, 20),
            "at least 2 training images of each class, one for each of training, validation, got 1 of ant",
        ),
        ({"validation": 2, "test": 2}, (3, 0), "at least 1 training images of each class, got 0 of bee"),
    ],
)
def test_class_with_too_few_images_is_named(given: dict[str, int], sizes: tuple[int, ...], line: str) -> None:
    with pytest.raises(ConfigError) as refused:
        divided(source(given, sizes=sizes))
    assert str(refused.value) == f"data.root: expected {line}"


def test_one_image_for_each_split_suffices() -> None:
    members = divided(source(sizes=(3, 3)))
    assert {part: len(numbers) for part, numbers in members.items()} == {
        "train": 2,
        "validation": 2,
        "test": 2,
    }
