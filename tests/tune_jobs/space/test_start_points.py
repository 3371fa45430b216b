from typing import Any

import optuna
import pytest

from tune_jobs.errors import BadInputError
from tune_jobs.space.field_reader import read_train
from tune_jobs.space.parameter_reader import read_parameters
from tune_jobs.space.start_points import read_start_points
from tune_jobs.space.yaml_file import parse

TEXT = """\
train: {{loss: {{temperature: 0.1}}, model: {{projection_dim: 32}}}}
space:
  model.exit_stages: {{choices: [[1], [2], []]}}
  model.exit_depth: {{choices: [fc, small], when: {{model.exit_stages: [[1], [2]]}}}}
  loss.temperature:
    - {{low: 0.05, high: 0.2, when: {{model.exit_depth: [fc]}}}}
    - {{low: 0.08, high: 0.5, when: {{model.exit_stages: [[1], [2]]}}}}
  model.projection_dim: {{choices: [16, 32]}}
forbid: [{{model.exit_stages: [2], model.exit_depth: small}}]
start: [{}]
"""


def encoded(start: str) -> dict[str, Any]:
    items = parse(TEXT.format(start), "f").mapping()
    parameters = read_parameters(items["space"], read_train(items["train"]), forbid=items["forbid"])
    (point,) = read_start_points(items["start"], parameters)
    return dict(point.encoded)


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        # The values of train are assigned too, in the branch that applies.
        (
            "{model.exit_stages: [1], model.exit_depth: fc}",
            {"model.exit_stages": "[1]", "model.exit_depth": "fc", "loss.temperature@1": 0.1,
             "model.projection_dim": 32},
        ),
        (
            "{model.exit_stages: [1], model.exit_depth: small, loss.temperature: 0.4}",
            {"model.exit_stages": "[1]", "model.exit_depth": "small", "loss.temperature@2": 0.4,
             "model.projection_dim": 32},
        ),
        # The depth is sampled, so either branch can apply, and both contain 0.15.
        (
            "{model.exit_stages: [1], loss.temperature: 0.15, model.projection_dim: 16}",
            {"model.exit_stages": "[1]", "loss.temperature@1": 0.15, "loss.temperature@2": 0.15,
             "model.projection_dim": 16},
        ),
        # Only the second branch contains 0.4: if the depth is sampled as fc, the temperature is sampled too.
        (
            "{model.exit_stages: [1], loss.temperature: 0.4}",
            {"model.exit_stages": "[1]", "loss.temperature@2": 0.4, "model.projection_dim": 32},
        ),
        # The exits are unknown, so the temperature of train is assigned in both branches.
        ("{model.projection_dim: 16}",
         {"loss.temperature@1": 0.1, "loss.temperature@2": 0.1, "model.projection_dim": 16}),
        # Without an exit the depth has its default, fc, which decides the branch of the temperature.
        ("{model.exit_stages: []}",
         {"model.exit_stages": "[]", "loss.temperature@1": 0.1, "model.projection_dim": 32}),
    ],
)  # fmt: skip
def test_a_starting_point_is_assigned_to_the_branches_that_can_apply(
    start: str, expected: dict[str, Any]
) -> None:
    assert encoded(start) == expected


@pytest.mark.parametrize(
    ("start", "message"),
    [
        (
            "{model.exit_stages: [1], model.exit_depth: fc, loss.temperature: 0.4}",
            "f:10:74: start.loss.temperature: expected a possible value of loss.temperature here: "
            "0.05 to 0.2, got 0.4",
        ),
        (
            "{model.exit_stages: [], model.exit_depth: fc}",
            "f:10:33: start.model.exit_depth: expected a parameter that is active in this starting point, "
            "got an inactive one",
        ),
        (
            "{model.exit_stages: [2], model.exit_depth: small}",
            "f:10:9: start: expected a combination that `forbid` allows, "
            "got {model.exit_stages: [2], model.exit_depth: small}",
        ),
        (
            "{model.projection_dim: 64}",
            "f:10:32: start.model.projection_dim: expected a possible value of model.projection_dim here: "
            "16 | 32, got 64",
        ),
    ],
)
def test_an_impossible_starting_point_is_refused(start: str, message: str) -> None:
    with pytest.raises(BadInputError) as refused:
        encoded(start)
    assert str(refused.value) == message


def test_conditions_on_an_inactive_parameter_use_the_value_of_train() -> None:
    text = """\
train: {loss: {exit_weight: 0.5}, model: {exit_depth: small}}
space:
  model.exit_stages: {choices: [[1], []]}
  model.exit_depth: {choices: [fc, small], when: {model.exit_stages: [[1]]}}
  loss.temperature: {low: 0.05, high: 0.2, when: {model.exit_depth: [small]}}
start: [{model.exit_stages: [], loss.temperature: 0.1}]
"""
    items = parse(text, "f").mapping()
    (point,) = read_start_points(items["start"], read_parameters(items["space"], read_train(items["train"])))
    assert point.encoded == {"model.exit_stages": "[]", "loss.temperature": 0.1}


@pytest.mark.filterwarnings("error")
def test_optuna_accepts_every_value_of_a_starting_point() -> None:
    items = parse(TEXT.format("{model.exit_stages: [1], loss.temperature: 0.15}"), "f").mapping()
    parameters = read_parameters(items["space"], read_train(items["train"]))
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.enqueue_trial(encoded("{model.exit_stages: [1], loss.temperature: 0.15}"))
    suggested = parameters.suggest(study.ask())
    assert (suggested["model.exit_stages"], suggested["loss.temperature"]) == ((1,), 0.15)
    assert suggested["model.projection_dim"] == 32
