from typing import Any

import pytest

from tune_jobs.errors import BadInputError
from tune_jobs.space.overrides import apply_overrides
from tune_jobs.space.yaml_file import parse

TEXT = """\
train: {optim: {epochs: 8}}
space:
  loss.temperature: {low: 0.1, high: 0.5}
  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[1]]}}
search: {num_trials: 12}
"""


def overridden(*overrides: str) -> Any:
    return apply_overrides(parse(TEXT, "f"), overrides).plain()


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("search.num_trials=3", ["search", "num_trials"], 3),
        ("train.optim.epochs=2", ["train", "optim", "epochs"], 2),
        ("train.seed=1", ["train", "seed"], 1),
        ("train.loss={temperature: 0.2}", ["train", "loss", "temperature"], 0.2),
        ("pruner.kind=none", ["pruner", "kind"], "none"),
        ("description=a = b", ["description"], "a = b"),
        ("name=", ["name"], None),
        ("space.loss.temperature.high=3e-1", ["space", "loss.temperature", "high"], 0.3),
        ("space.loss.temperature={choices: [0.1]}", ["space", "loss.temperature", "choices"], [0.1]),
        ("space.seed.choices=[1, 2]", ["space", "seed", "choices"], [1, 2]),
        ("space.model.width.low=8", ["space", "model.width", "low"], 8),
        (
            "space.model.exit_depth.when.model.exit_stages=[[2]]",
            ["space", "model.exit_depth", "when", "model.exit_stages"],
            [[2]],
        ),
        ("space.loss.temprature.low=1", ["space", "loss.temprature.low"], 1),
    ],
)
def test_an_override_sets_one_key(override: str, path: list[str], value: Any) -> None:
    found = overridden(override)
    for key in path:
        found = found[key]
    assert found == value


def test_all_other_keys_are_unchanged() -> None:
    assert overridden() == parse(TEXT, "f").plain()
    expected = parse(TEXT, "f").plain()
    expected["space"]["loss.temperature"]["high"] = 0.3
    assert overridden("space.loss.temperature.high=0.3") == expected


def test_the_last_override_of_a_key_wins() -> None:
    assert overridden("search.num_trials=3", "search.num_trials=4")["search"] == {"num_trials": 4}


def test_the_position_of_an_overridden_value_is_the_override() -> None:
    root = apply_overrides(parse(TEXT, "f"), ["space.loss.temperature.high=0.3", "train.loss.temperature=1"])
    bounds = root.mapping()["space"].mapping()["loss.temperature"].mapping()
    assert (bounds["low"].place, bounds["high"].place) == ("f:3:27", "--set space.loss.temperature.high=0.3")
    loss = root.mapping()["train"].mapping()["loss"]
    assert (loss.place, loss.key) == ("--set train.loss.temperature=1", "train.loss")
    assert loss.mapping()["temperature"].key == "train.loss.temperature"


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("search.num_trials", "expected KEY=VALUE, such as train.optim.epochs=4"),
        ("=3", "expected KEY=VALUE, such as train.optim.epochs=4"),
        ("a b=3", "expected KEY=VALUE, such as train.optim.epochs=4"),
        ("search..num_trials=3", "expected KEY=VALUE, such as train.optim.epochs=4"),
        ("search.num_trials=[1", "expected valid YAML, got a syntax error: expected ',' or ']', but got "
                                 "'<stream end>' while parsing a flow sequence from 1:1"),
        ("search={num_trials: 1, num_trials: 2}",
         "search.num_trials: expected each key once, got a duplicate "
         "(first at --set search={num_trials: 1, num_trials: 2})"),
        ("search.seed=012", "search.seed: expected a number without leading zeros, got 012"),
        ("search.num_trials.x=1",
         "search.num_trials.x: expected a mapping at search.num_trials to set x in, got 12"),
    ],
)  # fmt: skip
def test_an_invalid_override_is_refused(override: str, message: str) -> None:
    with pytest.raises(BadInputError) as refused:
        overridden(override)
    assert str(refused.value) == f"--set {override}: {message}"


def test_an_unprintable_override_is_shown_escaped() -> None:
    with pytest.raises(BadInputError, match=r"^--set 'a=\\x1b': expected printable text, got '\\x1b'$"):
        overridden("a=\x1b")


def test_a_file_that_is_not_a_mapping_cannot_be_overridden() -> None:
    with pytest.raises(BadInputError, match="expected a mapping at the file to set search in, got null"):
        apply_overrides(parse("", "f"), ["search.num_trials=3"])
