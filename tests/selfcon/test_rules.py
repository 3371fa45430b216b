import itertools
from typing import Any

import pytest

from selfcon.config import DEFAULTS, TrainConfig, check_rules
from selfcon.errors import ConfigError
from selfcon.rules import RULES, Rule

WEIGHTS_OF_0 = "expected a weight above 0 on the backbone or on an exit, got only weights of 0"
NO_POSITIVE = (
    "expected labels, two views or a contrasted exit, so that an anchor has a positive, got none of them"
)

VIOLATED: list[tuple[dict[str, Any], str, str]] = [
    (
        {"model.exit_stages": [2, 1]},
        "model.exit_stages",
        "expected each stage once, in ascending order, got [2, 1]",
    ),
    (
        {"model.exit_stages": [1, 1]},
        "model.exit_stages",
        "expected each stage once, in ascending order, got [1, 1]",
    ),
    (
        {"model.exit_stages": [4]},
        "model.exit_stages",
        "expected stages from 1 to 3, all but the last of resnet18, got [4]",
    ),
    (
        {"model.backbone": "wrn_16_8", "model.exit_stages": [3]},
        "model.exit_stages",
        "expected stages from 1 to 2, all but the last of wrn_16_8, got [3]",
    ),
    (
        {"model.backbone": "convnext_tiny", "model.normalization": "group"},
        "model.normalization",
        "expected batch, as convnext_tiny has LayerNorm and no BatchNorm to replace, got group",
    ),
    (
        {"model.backbone": "vgg13_bn", "data.image_size": 31},
        "data.image_size",
        "expected images of at least 32 pixels for vgg13_bn, got 31",
    ),
    (
        {"model.backbone": "vgg16_bn", "data.dataset": "digits"},
        "data.image_size",
        "expected images of at least 32 pixels for vgg16_bn, got 8",
    ),
    (
        {"model.exit_stages": [1, 2], "loss.exit_weight": [1.0]},
        "loss.exit_weight",
        "expected a number, or a list of 2, one for each of model.exit_stages, got [1.0]",
    ),
    ({"loss.exit_weight": 0, "loss.backbone_weight": 0}, "loss.backbone_weight", WEIGHTS_OF_0),
    (
        {"model.exit_stages": [], "loss.exit_weight": 2, "loss.backbone_weight": 0},
        "loss.backbone_weight",
        WEIGHTS_OF_0,
    ),
    ({"loss.use_labels": False, "model.exit_stages": []}, "loss.use_labels", NO_POSITIVE),
    (
        {"loss.use_labels": False, "loss.backbone_contrast": "backbone", "loss.exit_weight": 0},
        "loss.use_labels",
        NO_POSITIVE,
    ),
    (
        {"loss.objective": "cross_entropy", "loss.use_labels": False, "data.num_views": 2},
        "loss.use_labels",
        "expected true with the objective cross_entropy, which needs labels, got false",
    ),
    (
        {"loss.objective": "cross_entropy", "loss.backbone_contrast": "backbone"},
        "loss.backbone_contrast",
        "expected all (the default) with the objective cross_entropy, got backbone",
    ),
    (
        {"optim.epochs": 5, "optim.warmup_epochs": 5},
        "optim.warmup_epochs",
        "expected fewer warm-up epochs than the 5 of optim.epochs, got 5",
    ),
    (
        {"optim.schedule": "step"},
        "optim.step_epochs",
        "expected the epochs after which the step schedule reduces the learning rate, got []",
    ),
    ({"optim.step_epochs": [5]}, "optim.step_epochs", "expected [] with the cosine schedule, got [5]"),
    (
        {"optim.schedule": "step", "optim.step_epochs": [50, 100]},
        "optim.step_epochs",
        "expected ascending epochs below the 100 of optim.epochs, got [50, 100]",
    ),
    (
        {"optim.schedule": "step", "optim.step_epochs": [60, 50]},
        "optim.step_epochs",
        "expected ascending epochs below the 100 of optim.epochs, got [60, 50]",
    ),
]

VALID: list[dict[str, Any]] = [
    {"model.backbone": "efficientnet_b0", "model.exit_stages": [1, 2, 3, 4, 5, 6]},
    {"model.backbone": "vgg16_bn", "model.exit_stages": [4], "data.image_size": 32},
    {"model.backbone": "regnet_y_400mf", "model.normalization": "group", "data.image_size": 8},
    {"model.backbone": "convnext_tiny", "model.normalization": "batch"},
    {"model.backbone": "vgg16_bn", "data.dataset": "cifar10"},
    {"model.exit_stages": []},
    {"model.exit_stages": [1, 2, 3], "loss.exit_weight": [0.0, 0.0, 1.0], "loss.backbone_weight": 0},
    {"model.exit_stages": [], "loss.exit_weight": [], "loss.backbone_weight": 1},
    {"loss.use_labels": False, "loss.exit_weight": 0},
    {"loss.use_labels": False, "model.exit_stages": [], "data.num_views": 2},
    {"loss.objective": "cross_entropy", "model.exit_stages": []},
    {"loss.objective": "cross_entropy", "model.exit_stages": [1, 2], "loss.exit_weight": [0.3, 1.0]},
    {"optim.schedule": "step", "optim.step_epochs": [60, 80]},
    {"optim.epochs": 2, "optim.warmup_epochs": 1},
]


@pytest.mark.parametrize(("values", "field", "message"), VIOLATED)
def test_violated_rule_names_the_field(values: dict[str, Any], field: str, message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TrainConfig.from_flat(values)
    assert str(refused.value) == f"{field}: {message}"


@pytest.mark.parametrize("values", VALID)
def test_valid_configs_are_accepted(values: dict[str, Any]) -> None:
    check_rules(TrainConfig.from_flat(values).flat())


@pytest.mark.parametrize("rule", RULES)
def test_every_rule_is_violated_by_a_case(rule: Rule) -> None:
    cases = ({**DEFAULTS, **values} for values, _, _ in VIOLATED)
    found = (rule.violation(*(_as_in_config(case[name]) for name in rule.fields)) for case in cases)
    assert any(violation is not None for violation in found)


@pytest.mark.parametrize("rule", RULES)
def test_defaults_violate_no_rule(rule: Rule) -> None:
    assert rule.violation(*(DEFAULTS[name] for name in rule.fields)) is None


def test_rules_are_checked_only_if_all_their_fields_are_known() -> None:
    check_rules({"optim.warmup_epochs": 200})
    with pytest.raises(ConfigError, match=r"optim\.warmup_epochs"):
        check_rules({"optim.warmup_epochs": 200, "optim.epochs": 100})


def test_without_labels_two_views_are_needed_exactly_if_no_exit_is_contrasted() -> None:
    # By hand: with one view, the only other pairs of an anchor's image are other exits in its contrast set.
    for stages, contrast, weight, views in itertools.product(
        ([], [2]), ("all", "backbone"), (0.0, 1.0), (1, 2)
    ):
        flat = {**DEFAULTS, "loss.use_labels": False, "model.exit_stages": stages, "data.num_views": views}
        flat |= {"loss.backbone_contrast": contrast, "loss.exit_weight": weight}
        contrasts_an_exit = bool(stages) and (contrast == "all" or weight > 0)
        assert _is_valid(flat) == (views == 2 or contrasts_an_exit)


def _is_valid(flat: dict[str, Any]) -> bool:
    try:
        check_rules(flat)
    except ConfigError:
        return False
    return True


def _as_in_config(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
