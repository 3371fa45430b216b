"""Valid search-space files: the loaded search space, and the parameters that it suggests."""

import json
from pathlib import Path
from typing import Any

import optuna
import pytest

from selfcon.config import TrainConfig
from selfcon.errors import ConfigError
from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.space.domains import Suggests

TEXT = """\
name: example
description: >
  Which exit,
  how deep?
train:
  model: {width: 8, exit_depth: small}
  optim: {epochs: 8}
  seed: 3
space:
  model.exit_depth: {choices: [fc, same, 2], when: {model.exit_stages: [[1], [2]]}}
  model.exit_stages: {choices: [[1], [2], [3], [1, 2], []]}
  loss.temperature:
    - {low: 0.05, high: 0.2, log: true, when: {model.exit_depth: [fc]}}
    - {low: 0.1, high: 0.5}
  loss.exit_weight: {choices: [1.0, [0.5, 1]], when: {model.exit_stages: [[1, 2]]}}
  optim.warmup_epochs: {low: 0, high: 6, step: 2}
  optim.weight_decay: {low: 0, high: 0.3, step: 0.1}
forbid:
  - {model.exit_stages: [1], model.exit_depth: same}
  - {model.exit_stages: [3], model.exit_depth: small}
start:
  - {model.exit_stages: [2], model.exit_depth: fc, loss.temperature: 0.1}
objective: {metric: val/ensemble_top1}
search: {num_trials: 5, sampler: random, seed: 7, max_concurrent: 2}
pruner: {kind: successive_halving, min_epochs: 2, reduction_factor: 2}
trial: {num_workers: 2, cpus_per_worker: 0.5}
tracking: {experiment: exits}
"""

PARETO = "objective=[{metric: val/top1}, {metric: cost/train_macs, direction: minimize}]"
CONSTRAINTS = "constraints=[{metric: cost/peak_memory_mb, max: 4000}, {metric: val/top1, min: 0.5}]"
CONFIRM = "confirm={top_k: 3, seeds: 2}"
BUDGETS = "search={time_budget: 2h30m, accelerator_hours: 2.5}"


class RecordingTrial:
    """Trial that suggests the given values by Optuna name, and records the calls."""

    def __init__(self, **values: Any) -> None:
        self.values = values
        self.calls: list[tuple[Any, ...]] = []

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        return float(self._answer(name, "float", low, high, step, log))

    def suggest_int(self, name: str, low: int, high: int, *, step: int = 1, log: bool = False) -> int:
        return int(self._answer(name, "int", low, high, step, log))

    def suggest_categorical(self, name: str, choices: Any) -> Any:
        return self._answer(name, "categorical", *choices)

    def _answer(self, name: str, *arguments: Any) -> Any:
        self.calls.append((name, *arguments))
        return self.values[name]


def load(folder: Path, text: str, **options: Any) -> SearchSpace:
    path = folder / "file.yaml"
    path.write_text(text)
    return load_space(path, **options)


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    return load(tmp_path, TEXT)


def test_settings_are_read_and_omitted_ones_have_their_defaults(space: SearchSpace) -> None:
    assert (space.name, space.description) == ("example", "Which exit, how deep?")
    assert dict(space.train) == {"model.width": 8, "model.exit_depth": "small", "optim.epochs": 8, "seed": 3}
    assert (space.objective.metric, space.objective.direction) == ("val/ensemble_top1", "maximize")
    search = space.search
    assert (search.num_trials, search.sampler, search.seed, search.max_concurrent) == (5, "random", 7, 2)
    assert (space.trial.num_workers, space.trial.cpus_per_worker, space.trial.gpus_per_worker) == (
        2,
        0.5,
        0.0,
    )
    assert (space.tracking.experiment, space.tracking.registered_model) == ("exits", "selfcon-digits")
    assert space.text == TEXT


def test_a_file_with_one_parameter_has_defaults_for_everything_else(tmp_path: Path) -> None:
    space = load(tmp_path, "space: {seed: {choices: [0, 1]}}\n")
    assert (space.name, space.description, space.forbid, space.start_points()) == ("file", "", (), [])
    assert (space.objective.metric, space.objective.direction) == ("val/top1", "maximize")
    assert (space.pruner.kind, space.pruner.min_epochs, space.pruner.reduction_factor) == ("none", 1, 3)
    assert (space.search.num_trials, space.search.sampler, space.search.max_concurrent) == (20, "tpe", "auto")
    assert (space.tracking.experiment, space.tracking.registered_model) == ("file", "selfcon-digits")


def test_objectives_constraints_and_budgets_are_read_in_the_files_order(tmp_path: Path) -> None:
    space = load(tmp_path, TEXT, overrides=[PARETO, CONSTRAINTS, CONFIRM, BUDGETS])
    first, second = space.objectives
    assert space.objective is first
    assert (first.metric, first.direction) == ("val/top1", "maximize")
    assert (second.metric, second.direction) == ("cost/train_macs", "minimize")
    memory, accuracy = space.constraints
    assert (memory.metric, memory.max, memory.min) == ("cost/peak_memory_mb", 4000.0, None)
    assert (accuracy.metric, accuracy.max, accuracy.min) == ("val/top1", None, 0.5)
    assert space.confirm is not None
    assert (space.confirm.top_k, space.confirm.seeds) == (3, 2)
    assert (space.search.time_budget_s, space.search.accelerator_hours) == (9000.0, 2.5)


def test_by_default_there_is_one_objective_and_no_constraint_or_budget(tmp_path: Path) -> None:
    space = load(tmp_path, "space: {seed: {choices: [0, 1]}}\n")
    assert (len(space.objectives), space.constraints, space.confirm) == (1, (), None)
    assert (space.search.time_budget_s, space.search.accelerator_hours) == (None, None)


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "cmaes", "qmc", "nsga2"])
def test_every_sampler_supports_conditions_and_constraints(tmp_path: Path, sampler: str) -> None:
    space = load(tmp_path, TEXT, overrides=[CONSTRAINTS, f"search.sampler={sampler}"])
    assert space.search.sampler == sampler


@pytest.mark.parametrize("sampler", ["tpe", "random", "gp", "qmc", "nsga2"])
def test_every_sampler_but_cmaes_supports_several_objectives(tmp_path: Path, sampler: str) -> None:
    space = load(tmp_path, TEXT, overrides=[PARETO, f"search.sampler={sampler}"])
    assert len(space.objectives) == 2


@pytest.mark.parametrize(
    ("pruner", "expected"),
    [
        ("{}", {"kind": "none"}),
        ("{kind: none, min_epochs: 2}", {"kind": "none"}),
        ("{kind: median, min_epochs: 2}", {"kind": "median", "min_epochs": 2}),
        ("{kind: hyperband}", {"kind": "hyperband", "min_epochs": 1, "reduction_factor": 3}),
    ],
)
def test_only_the_settings_that_a_pruner_uses_are_immutable(
    tmp_path: Path, pruner: str, expected: dict[str, Any]
) -> None:
    assert load(tmp_path, TEXT, overrides=[f"pruner={pruner}"]).immutable_settings()["pruner"] == expected


def test_an_exhaustive_sampler_supports_steps_and_choices(tmp_path: Path) -> None:
    text = "space: {seed: {low: 0, high: 3}, loss.temperature: {low: 0.1, high: 0.5, step: 0.1}}\n"
    space = load(tmp_path, text, overrides=["search.sampler=brute_force"])
    assert space.search.sampler == "brute_force"


def test_a_given_name_is_the_name_of_the_search_and_of_its_experiment(tmp_path: Path) -> None:
    space = load(tmp_path, "space: {seed: {choices: [0, 1]}}\n", name="other")
    assert (space.name, space.tracking.experiment) == ("other", "other")


def test_parameters_are_suggested_after_those_they_depend_on(space: SearchSpace) -> None:
    trial = RecordingTrial(
        **{
            "model.exit_stages": "[2]",
            "model.exit_depth": 2,
            "loss.temperature@2": 0.3,
            "optim.warmup_epochs": 4,
            "optim.weight_decay": 0.1,
        }
    )
    parameters = space.suggest(trial)
    assert trial.calls == [
        ("model.exit_stages", "categorical", "[1]", "[2]", "[3]", "[1, 2]", "[]"),
        ("model.exit_depth", "categorical", "fc", "same", 2),
        ("loss.temperature@2", "float", 0.1, 0.5, None, False),
        ("optim.warmup_epochs", "int", 0, 6, 2, False),
        ("optim.weight_decay", "float", 0.0, 0.3, 0.1, False),
    ]
    # In the file's order, with lists as tuples; the weights are active with two exits only.
    assert list(parameters.items()) == [
        ("model.exit_depth", 2),
        ("model.exit_stages", (2,)),
        ("loss.temperature", 0.3),
        ("optim.warmup_epochs", 4),
        ("optim.weight_decay", 0.1),
    ]


def test_the_first_branch_that_applies_is_suggested_under_its_optuna_name(space: SearchSpace) -> None:
    trial = RecordingTrial(
        **{
            "model.exit_stages": "[1]",
            "model.exit_depth": "fc",
            "loss.temperature@1": 0.07,
            "optim.warmup_epochs": 0,
            "optim.weight_decay": 0.0,
        }
    )
    assert space.suggest(trial)["loss.temperature"] == 0.07
    assert ("loss.temperature@1", "float", 0.05, 0.2, None, True) in trial.calls


def test_an_inactive_parameter_has_the_train_value_else_the_default(space: SearchSpace) -> None:
    trial = RecordingTrial(
        **{
            "model.exit_stages": "[1, 2]",
            "loss.exit_weight": "[0.5, 1.0]",
            "loss.temperature@2": 0.2,
            "optim.warmup_epochs": 2,
            "optim.weight_decay": 0.2,
        }
    )
    parameters = space.suggest(trial)
    assert "model.exit_depth" not in parameters
    assert parameters["loss.exit_weight"] == (0.5, 1.0)
    assert space.resolve(parameters) == TrainConfig.from_flat(
        {
            **space.train,
            "model.exit_stages": [1, 2],
            "loss.exit_weight": [0.5, 1],
            "loss.temperature": 0.2,
            "optim.warmup_epochs": 2,
            "optim.weight_decay": 0.2,
        }
    )
    # Without an exit, the weight is inactive and has its default.
    assert space.resolve({"model.exit_stages": ()}).loss.exit_weight == 1.0


def test_a_configuration_that_violates_a_rule_is_refused(space: SearchSpace) -> None:
    with pytest.raises(ConfigError, match=r"^loss\.exit_weight: "):
        space.resolve({"model.exit_stages": (1,), "loss.exit_weight": (0.5, 1.0)})


@pytest.mark.parametrize(
    ("parameters", "forbidden"),
    [
        ({"model.exit_stages": (1,), "model.exit_depth": "same"}, True),
        ({"model.exit_stages": (1,), "model.exit_depth": "fc"}, False),
        ({"model.exit_stages": (2,), "model.exit_depth": "same"}, False),
        ({"model.exit_stages": (3,)}, True),  # inactive, so its value is `small`, from train
        ({"model.exit_stages": ()}, False),
    ],
)
def test_a_configuration_with_all_values_of_an_entry_is_forbidden(
    space: SearchSpace, parameters: dict[str, Any], forbidden: bool
) -> None:
    assert space.is_forbidden(parameters) == forbidden


def test_optuna_suggests_through_the_same_protocol(space: SearchSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    trial: Suggests = study.ask()
    parameters = space.suggest(trial)
    space.resolve(parameters)
    assert {name.partition("@")[0] for name in study.get_trials()[0].params} == set(parameters)


def test_optuna_suggests_the_enqueued_starting_points(space: SearchSpace) -> None:
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    (point,) = space.start_points()
    assert point == {"model.exit_stages": "[2]", "model.exit_depth": "fc", "loss.temperature@1": 0.1}
    study.enqueue_trial(point)
    parameters = space.suggest(study.ask())
    assert (parameters["model.exit_stages"], parameters["model.exit_depth"]) == ((2,), "fc")
    assert parameters["loss.temperature"] == 0.1


def test_the_data_configuration_of_all_trials_is_that_of_train(tmp_path: Path) -> None:
    space = load(tmp_path, "train: {data: {validation_fraction: 0.2}}\nspace: {seed: {choices: [0, 1]}}\n")
    assert (space.data.dataset, space.data.validation_fraction) == ("digits", 0.2)


def test_immutable_settings_are_json_and_complete(space: SearchSpace) -> None:
    immutable = space.immutable_settings()
    assert json.loads(json.dumps(immutable)) == immutable
    assert immutable["train"] == {"model.width": 8, "model.exit_depth": "small", "optim.epochs": 8, "seed": 3}
    assert immutable["space"]["model.exit_stages"] == [{"choices": [[1], [2], [3], [1, 2], []]}]
    assert immutable["space"]["loss.temperature"] == [
        {"low": 0.05, "high": 0.2, "log": True, "when": {"model.exit_depth": ["fc"]}},
        {"low": 0.1, "high": 0.5},
    ]
    assert immutable["space"]["optim.warmup_epochs"] == [{"low": 0, "high": 6, "step": 2}]
    assert immutable["forbid"][0] == {"model.exit_stages": [1], "model.exit_depth": "same"}
    assert immutable["objective"] == {"metric": "val/ensemble_top1", "direction": "maximize"}
    assert immutable["pruner"] == {"kind": "successive_halving", "min_epochs": 2, "reduction_factor": 2}
    assert (immutable["sampler"], immutable["seed"]) == ("random", 7)


def test_several_objectives_and_constraints_are_immutable_as_they_are_written(tmp_path: Path) -> None:
    immutable = load(tmp_path, TEXT, overrides=[PARETO, CONSTRAINTS]).immutable_settings()
    assert json.loads(json.dumps(immutable)) == immutable
    assert immutable["objective"] == [
        {"metric": "val/top1", "direction": "maximize"},
        {"metric": "cost/train_macs", "direction": "minimize"},
    ]
    assert immutable["constraints"] == [
        {"metric": "cost/peak_memory_mb", "max": 4000.0},
        {"metric": "val/top1", "min": 0.5},
    ]


def test_without_constraints_immutable_settings_keep_their_earlier_format(
    space: SearchSpace,
) -> None:
    keys = {"train", "space", "forbid", "objective", "pruner", "sampler", "seed"}
    assert set(space.immutable_settings()) == keys


@pytest.mark.parametrize(
    "free",
    ["search.num_trials=9", "search.max_concurrent=1", "trial.num_workers=1", "description=x", "start=[]",
     CONFIRM, "search.time_budget=1h", "search.accelerator_hours=3", "constraints=[]"],
)  # fmt: skip
def test_a_setting_that_can_change_is_not_immutable(tmp_path: Path, space: SearchSpace, free: str) -> None:
    assert load(tmp_path, TEXT, overrides=[free]).immutable_settings() == space.immutable_settings()


@pytest.mark.parametrize(
    "change",
    ["train.model.width=16", "space.loss.exit_weight.choices=[1.0]", "forbid=[]", "objective.metric=val/top1",
     "pruner.min_epochs=3", "pruner.kind=hyperband", "search.sampler=tpe", "search.seed=8", PARETO,
     CONSTRAINTS],
)  # fmt: skip
def test_a_change_of_an_immutable_setting_is_detected(
    tmp_path: Path, space: SearchSpace, change: str
) -> None:
    assert load(tmp_path, TEXT, overrides=[change]).immutable_settings() != space.immutable_settings()


def test_the_settings_of_a_disabled_pruner_are_not_immutable(tmp_path: Path) -> None:
    one, other = (
        load(tmp_path, TEXT, overrides=["pruner.kind=none", f"pruner.min_epochs={epochs}"])
        for epochs in (1, 2)
    )
    assert one.immutable_settings() == other.immutable_settings()


def test_a_key_has_its_position_in_the_file(tmp_path: Path, space: SearchSpace) -> None:
    path = tmp_path / "file.yaml"
    assert space.place("trial.num_workers") == f"{path}:26:22"
    assert space.place("trial.gpus_per_worker") == f"{path}:26:8"  # missing, so that of the section
    assert space.place("constraints") == f"{path}:1:1"


def test_the_metric_of_an_exit_that_every_configuration_has_is_a_valid_objective(tmp_path: Path) -> None:
    text = "space: {model.exit_stages: {choices: [[1], [1, 2]]}}\nobjective: {metric: val/exit1_top1}\n"
    assert load(tmp_path, text).objective.metric == "val/exit1_top1"


def test_an_invalid_name_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "my space.yaml"
    path.write_text("space: {seed: {choices: [0, 1]}}\n")
    with pytest.raises(BadInputError, match=r":1:1: name: expected a `name:`, because .* got 'my space'$"):
        load_space(path)
    with pytest.raises(BadInputError, match=r"^--name: expected a name of at most 64 .* got a/b$"):
        load_space(path, name="a/b")
