from pathlib import Path

import pytest

from tune_jobs.errors import BadInputError
from tune_jobs.space import load_space
from tune_jobs.space.examples import RandomTrial, example_parameters


def test_examples_are_reproducible_and_differ_from_each_other(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("space: {loss.temperature: {low: 0.1, high: 0.5}, seed: {low: 0, high: 9}}\n")
    examples = example_parameters(load_space(path), 3)
    assert examples == example_parameters(load_space(path), 3)
    assert len({repr(parameters) for parameters in examples}) == 3


def test_examples_are_never_forbidden(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("space: {seed: {low: 0, high: 1}}\nforbid: [{seed: 0}]\n")
    assert example_parameters(load_space(path), 3) == [{"seed": 1}] * 3


def test_a_space_that_forbids_everything_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text("space: {seed: {low: 0, high: 1}}\nforbid: [{seed: 0}, {seed: 1}]\n")
    with pytest.raises(
        BadInputError, match=r"yaml:2:9: forbid: expected entries that allow at least one configuration"
    ):
        example_parameters(load_space(path), 1)


def test_logarithmic_samples_are_spread_over_the_decades() -> None:
    floats = [RandomTrial(seed).suggest_float("x", 1e-3, 1e3, log=True) for seed in range(600)]
    assert 240 < sum(value < 1 for value in floats) < 360
    whole = [RandomTrial(seed).suggest_int("x", 1, 100, log=True) for seed in range(600)]
    assert {1, 100} <= set(whole)
    assert 240 < sum(value < 10 for value in whole) < 360


def test_every_step_and_choice_is_sampled() -> None:
    assert {RandomTrial(seed).suggest_int("x", 1, 7, step=3) for seed in range(60)} == {1, 4, 7}
    steps = {round(RandomTrial(seed).suggest_float("x", 0.1, 0.5, step=0.2), 6) for seed in range(60)}
    assert steps == {0.1, 0.3, 0.5}
    assert {RandomTrial(seed).suggest_categorical("x", ["a", None]) for seed in range(60)} == {"a", None}
