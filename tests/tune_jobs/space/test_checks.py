"""Checks of a whole file, compared with an oracle that tries every configuration of the file."""

import json
from collections.abc import Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selfcon.config import RULES, TrainConfig
from selfcon.errors import ConfigError
from tune_jobs.errors import BadInputError
from tune_jobs.space import checks
from tune_jobs.space.checks import check_branches, check_rule
from tune_jobs.space.conditions import Parameters
from tune_jobs.space.field_reader import read_train
from tune_jobs.space.parameter_reader import read_parameters
from tune_jobs.space.yaml_file import Node, parse

# Fields that appear in rules, with valid and invalid values.
VALUES: dict[str, list[Any]] = {
    "model.exit_stages": [[], [1], [2], [1, 2], [3, 1], [4]],
    "loss.exit_weight": [0.0, 1.0, [1.0], [0.0, 0.0], [0.5, 2.0]],
    "loss.backbone_weight": [0.0, 1.0],
    "loss.use_labels": [True, False],
    "loss.backbone_contrast": ["all", "backbone"],
    "data.num_views": [1, 2],
    "optim.epochs": [2, 4, 8],
    "optim.warmup_epochs": [0, 2, 4],
    "optim.schedule": ["cosine", "step"],
    "optim.step_epochs": [[], [1], [3], [5, 3]],
}


class ExhaustiveTrial:
    """Trial that enumerates all suggestions: `pending` holds the prefixes that are still to be tried."""

    def __init__(self, given: Sequence[int], pending: list[list[int]]) -> None:
        self._given, self._asked, self._pending = given, 0, pending

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        raise NotImplementedError

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._answer(range(low, high + 1, step)))

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        return self._answer(choices)

    def _answer(self, options: Sequence[Any]) -> Any:
        if self._asked == len(self._given):
            self._pending += [[*self._given, other] for other in range(1, len(options))]
            self._given = [*self._given, 0]
        self._asked += 1
        return options[self._given[self._asked - 1]]


def every_configuration(parameters: Parameters) -> Iterator[dict[str, Any]]:
    """Yield all allowed configurations of choices and whole numbers."""
    pending: list[list[int]] = [[]]
    while pending:
        suggested = parameters.suggest(ExhaustiveTrial(pending.pop(), pending))
        if not parameters.is_forbidden(suggested):
            yield suggested


def is_invalid(values: dict[str, Any]) -> bool:
    try:
        TrainConfig.from_flat(values)
    except ConfigError:
        return True
    return False


@st.composite
def files(draw: st.DrawFn, *, forbid: bool) -> str:
    """Files with two to four parameters with choices, some of them conditional, and some fixed values."""
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=2, max_size=4, unique=True))
    space: dict[str, Any] = {}
    for i, name in enumerate(names):
        choices = st.lists(st.sampled_from(VALUES[name]), min_size=1, max_size=3, unique_by=repr)
        space[name] = {"choices": draw(choices)}
        if i and draw(st.booleans()):
            other = draw(st.sampled_from(names[:i]))
            space[name]["when"] = {other: [draw(st.sampled_from(space[other]["choices"]))]}
    train: dict[str, dict[str, Any]] = {}
    for name in draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=2, unique=True)):
        section, field = name.split(".")
        train.setdefault(section, {})[field] = draw(st.sampled_from(VALUES[name]))
    entries = [{name: draw(st.sampled_from(space[name]["choices"])) for name in names[:2]}] if forbid else []
    return json.dumps({"train": train, "space": space, "forbid": entries})


def read(text: str) -> tuple[Node, Parameters]:
    root = parse(text, "f")
    items = root.mapping()
    return root, read_parameters(items["space"], read_train(items["train"]), forbid=items["forbid"])


def refuses(root: Node, parameters: Parameters) -> bool:
    try:
        for rule in RULES:
            check_rule(root, parameters, rule)
    except BadInputError:
        return True
    return False


@settings(max_examples=300, deadline=None)
@given(files(forbid=False))
def test_a_file_is_refused_exactly_if_some_configuration_violates_a_rule(text: str) -> None:
    root, parameters = read(text)
    invalid = any(is_invalid({**parameters.fixed, **sampled}) for sampled in every_configuration(parameters))
    assert refuses(root, parameters) == invalid


@settings(max_examples=300, deadline=None)
@given(files(forbid=True))
def test_with_forbidden_combinations_no_violated_rule_is_missed(text: str) -> None:
    root, parameters = read(text)
    invalid = any(is_invalid({**parameters.fixed, **sampled}) for sampled in every_configuration(parameters))
    assert refuses(root, parameters) >= invalid


@settings(max_examples=100, deadline=None)
@given(
    epochs=st.tuples(st.integers(1, 12), st.integers(0, 12)),
    warmup=st.tuples(st.integers(0, 12), st.integers(0, 6), st.integers(1, 3)),
    forbidden=st.lists(st.integers(0, 12), max_size=3, unique=True),
)
def test_checking_the_corner_values_of_ranges_is_sufficient(
    epochs: tuple[int, int], warmup: tuple[int, int, int], forbidden: list[int]
) -> None:
    low, width, step = warmup
    numbers = range(low, low + width * step + 1, step)
    space = {
        "optim.epochs": {"low": epochs[0], "high": sum(epochs)},
        "optim.warmup_epochs": {"low": numbers[0], "high": numbers[-1], "step": step},
    }
    forbid = [{"optim.warmup_epochs": number} for number in forbidden if number in numbers]
    root, parameters = read(json.dumps({"train": {}, "space": space, "forbid": forbid}))
    assert refuses(root, parameters) == any(map(is_invalid, every_configuration(parameters)))


def test_a_combination_excluded_by_forbid_cannot_violate_a_rule() -> None:
    space = {"optim.epochs": {"choices": [4, 8]}, "optim.warmup_epochs": {"choices": [0, 4]}}
    forbid = [{"optim.epochs": 4, "optim.warmup_epochs": 4}]
    assert refuses(*read(json.dumps({"train": {}, "space": space, "forbid": []})))
    assert not refuses(*read(json.dumps({"train": {}, "space": space, "forbid": forbid})))


def test_a_combination_excluded_by_a_condition_cannot_violate_a_rule() -> None:
    space = {
        "optim.epochs": {"choices": [4, 8]},
        "optim.warmup_epochs": {"choices": [0, 4], "when": {"optim.epochs": [8]}},
    }
    assert not refuses(*read(json.dumps({"train": {}, "space": space, "forbid": []})))


def test_only_a_part_of_a_huge_space_is_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {
        "loss.exit_weight": {"choices": [0.0, 1.0]},
        "loss.backbone_weight": {"choices": [1.0, 0.0]},
    }
    root, parameters = read(json.dumps({"train": {}, "space": space, "forbid": []}))
    assert refuses(root, parameters)
    monkeypatch.setattr(checks, "MAX_COMBINATIONS", 1)
    assert not refuses(root, parameters)


def test_a_branch_beyond_the_checked_part_is_not_called_unreachable(monkeypatch: pytest.MonkeyPatch) -> None:
    space = {
        "seed": {"choices": [0, 1]},
        "loss.temperature": [
            {"choices": [0.1], "when": {"seed": [0]}},
            {"choices": [0.2], "when": {"seed": [1]}},
        ],
    }
    root, parameters = read(json.dumps({"train": {}, "space": space, "forbid": []}))
    check_branches(root, parameters)
    monkeypatch.setattr(checks, "MAX_COMBINATIONS", 1)
    check_branches(root, parameters)


def test_a_branch_that_is_always_forbidden_is_unreachable() -> None:
    space = {
        "seed": {"choices": [0, 1]},
        "loss.temperature": [{"choices": [0.1], "when": {"seed": [0]}}, {"choices": [0.2]}],
    }
    root, parameters = read(json.dumps({"train": {}, "space": space, "forbid": [{"seed": 0}]}))
    with pytest.raises(BadInputError, match="expected a branch that at least one configuration reaches"):
        check_branches(root, parameters)
