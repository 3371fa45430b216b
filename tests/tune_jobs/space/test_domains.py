import json
from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.space.domains import Choices, Domain, FloatRange, IntRange, encode, is_whole_number_of_steps
from tune_jobs.space.examples import RandomTrial

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()


@given(
    st.lists(
        scalars | st.lists(st.integers() | st.floats(allow_nan=False)).map(tuple), min_size=1, unique_by=repr
    )
)
def test_encoded_choices_are_scalars_and_decode_to_the_same_values(values: list[Any]) -> None:
    encoded = [encode(value) for value in values]
    assert all(value is None or isinstance(value, str | int | float | bool) for value in encoded)
    lists = [(value, text) for value, text in zip(values, encoded, strict=True) if isinstance(value, tuple)]
    assert all(tuple(json.loads(text)) == value for value, text in lists if isinstance(text, str))


@pytest.mark.parametrize("value", [(), (1,), (0.5, 2.0)])
def test_a_list_is_encoded_as_its_json_text(value: tuple[float, ...]) -> None:
    assert encode(value) == json.dumps(list(value))


@pytest.mark.parametrize(
    ("domain", "inside", "outside"),
    [
        (Choices(((1,), (1, 2))), [(1,), (1, 2)], [(2,), 1, "[1]"]),
        (Choices(("fc", 2)), ["fc", 2], ["2", 3]),
        (IntRange(1, 7, step=3), [1, 4, 7], [0, 2, 10, 4.5, "4"]),
        (IntRange(2, 16, log=True), [2, 3, 16], [1, 17]),
        (FloatRange(0.1, 0.5), [0.1, 0.3, 0.5], [0.09, 0.51, "0.3", None]),
        (FloatRange(0.1, 0.7, step=0.2), [0.1, 0.3, 0.5, 0.7], [0.2, 0.9]),
    ],
)
def test_a_domain_contains_only_its_values(domain: Domain, inside: list[Any], outside: list[Any]) -> None:
    assert all(domain.contains(value) for value in inside)
    assert not any(domain.contains(value) for value in outside)


@pytest.mark.parametrize(
    ("domain", "text"),
    [
        (Choices(((1,), "fc", None)), "[1] | fc | null"),
        (IntRange(1, 7, step=3), "1 to 7 in steps of 3"),
        (IntRange(1, 7), "1 to 7"),
        (FloatRange(0.05, 0.5, log=True), "0.05 to 0.5, log"),
        (FloatRange(0.1, 0.7, step=0.2), "0.1 to 0.7 in steps of 0.2"),
    ],
)
def test_a_domain_is_shown_as_text(domain: Domain, text: str) -> None:
    assert str(domain) == text


def test_corners_are_the_bounds_and_the_neighbourhood_of_referenced_values() -> None:
    assert IntRange(0, 100).corners([]) == (0, 100)
    assert IntRange(0, 100).corners([50, 100, 200]) == (0, 49, 50, 51, 99, 100)
    assert IntRange(0, 10, step=5).corners([5]) == (0, 5, 10)
    assert FloatRange(0.1, 0.5).corners([]) == (0.1, 0.5)
    assert Choices(("a", "b")).corners([]) == ("a", "b")


@pytest.mark.parametrize(
    ("low", "high", "step", "whole"),
    [
        (0.1, 0.7, 0.2, True),
        (0.1, 0.3, 0.1, True),
        (0, 1, 0.3, False),
        (0, 0, 5, True),
        (1e-4, 1e-3, 1e-4, True),
    ],
)
def test_steps_are_counted_in_decimal_arithmetic(low: float, high: float, step: float, whole: bool) -> None:
    assert is_whole_number_of_steps(low, high, step) == whole


DOMAINS: list[Domain] = [
    IntRange(1, 7, step=3),
    IntRange(2, 64, log=True),
    FloatRange(0.1, 0.5),
    FloatRange(1e-4, 10.0, log=True),
    FloatRange(0.1, 0.7, step=0.2),
    Choices(((1,), (2, 3))),
]


@pytest.mark.parametrize("domain", DOMAINS)
@given(seed=st.integers(0, 2**32))
def test_the_value_that_a_trial_suggests_is_in_the_domain(domain: Domain, seed: int) -> None:
    assert domain.contains(domain.suggest(RandomTrial(seed), "x"))


@pytest.mark.parametrize("domain", DOMAINS)
def test_the_value_that_optuna_suggests_is_in_the_domain(domain: Domain) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    suggested = [domain.suggest(study.ask(), "x") for _ in range(50)]
    assert all(domain.contains(value) for value in suggested)
