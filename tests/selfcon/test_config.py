import math
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selfcon.config import (
    DEFAULTS,
    FIELD_NAMES,
    TrainConfig,
    check_field,
    field_annotation,
    parse_field,
)
from selfcon.errors import ConfigError

FIELDS_AND_DEFAULTS = {
    "data.dataset": "digits",
    "data.root": "data",
    "data.validation_fraction": 0.1,
    "data.num_views": 1,
    "data.augmentation": "standard",
    "data.image_size": None,
    "data.split_seed": 0,
    "model.backbone": "resnet18",
    "model.width": 64,
    "model.exit_stages": (2,),
    "model.exit_depth": "fc",
    "model.projection_dim": 128,
    "model.projection_normalization": "batch",
    "model.normalization": "batch",
    "model.weights": None,
    "loss.objective": "contrastive",
    "loss.temperature": 0.1,
    "loss.base_temperature": 0.07,
    "loss.use_labels": True,
    "loss.exit_weight": 1.0,
    "loss.backbone_weight": 1.0,
    "loss.backbone_contrast": "all",
    "optim.epochs": 100,
    "optim.global_batch_size": 256,
    "optim.learning_rate": 0.1,
    "optim.momentum": 0.9,
    "optim.weight_decay": 1e-4,
    "optim.schedule": "cosine",
    "optim.warmup_epochs": 0,
    "optim.step_epochs": (),
    "optim.step_factor": 0.1,
    "optim.precision": "fp32",
    "evaluate.every_epochs": 1,
    "evaluate.probe_epochs": 100,
    "evaluate.probe_learning_rate": 3.0,
    "evaluate.probe_batch_size": 512,
    "evaluate.knn_neighbours": 20,
    "runtime.channels_last": False,
    "runtime.compile": False,
    "seed": 0,
}

POSITIVE = "a finite number greater than 0"
NOT_NEGATIVE = "a finite number of at least 0"
WEIGHTS = f"{NOT_NEGATIVE}, or a list, each item {NOT_NEGATIVE}"
STAGES = "a list, each item a whole number of at least 1"
DEPTH = "one of fc, small, same, large, or a whole number of at least 1"
BACKBONES = (
    "resnet18, resnet34, resnet50, resnet101, wrn_16_8, wrn_28_10, vgg13_bn, vgg16_bn, efficientnet_b0, "
    "convnext_tiny, regnet_y_400mf"
)
UNKNOWN = "expected the name of a training field, got an unknown name"

INVALID_FIELDS: list[tuple[str, Any, str]] = [
    ("loss.temperature", 0, f"expected {POSITIVE}, got 0"),
    ("loss.temperature", -0.1, f"expected {POSITIVE}, got -0.1"),
    ("loss.temperature", math.nan, f"expected {POSITIVE}, got nan"),
    ("loss.temperature", math.inf, f"expected {POSITIVE}, got inf"),
    (
        "loss.objective",
        "cross-entropy",
        "expected one of contrastive, cross_entropy, got cross-entropy (did you mean cross_entropy?)",
    ),
    ("loss.temperature", "0.1", f"expected {POSITIVE}, got '0.1'"),
    ("loss.temperature", True, f"expected {POSITIVE}, got true"),
    ("loss.temperature", None, f"expected {POSITIVE}, got null"),
    ("loss.temperature", [0.1], f"expected {POSITIVE}, got [0.1]"),
    ("loss.base_temperature", 0, f"expected {POSITIVE}, got 0"),
    ("loss.use_labels", "yes", "expected true or false, got yes (did you mean true?)"),
    ("loss.use_labels", "Off", "expected true or false, got Off (did you mean false?)"),
    ("loss.use_labels", 1, "expected true or false, got 1"),
    ("loss.exit_weight", -1, f"expected {WEIGHTS}, got -1"),
    ("loss.exit_weight", [1, -1], f"expected {WEIGHTS}, got [1, -1]"),
    ("loss.backbone_weight", -1, f"expected {NOT_NEGATIVE}, got -1"),
    ("loss.backbone_contrast", "none", "expected one of all, backbone, got none"),
    ("model.exit_stages", 2, f"expected {STAGES}, got 2"),
    ("model.exit_stages", [0], f"expected {STAGES}, got [0]"),
    ("model.exit_stages", ["a"], f"expected {STAGES}, got [a]"),
    ("model.exit_depth", 0, f"expected {DEPTH}, got 0"),
    ("model.exit_depth", "smal", f"expected {DEPTH}, got smal (did you mean small?)"),
    ("model.width", 3, "expected a whole number from 4 to 1024, got 3"),
    ("model.width", 16.0, "expected a whole number from 4 to 1024, got 16.0"),
    ("model.projection_dim", 0, "expected a whole number of at least 1, got 0"),
    (
        "model.projection_normalization",
        "batc",
        "expected one of batch, input, none, got batc (did you mean batch?)",
    ),
    ("model.normalization", "layer", "expected one of batch, group, frozen, got layer"),
    ("model.weights", 5, "expected text, or null, got 5"),
    ("model.backbone", "vgg16", f"expected one of {BACKBONES}, got vgg16 (did you mean vgg16_bn?)"),
    (
        "data.dataset",
        "cifar",
        "expected one of digits, cifar10, cifar100, tinyimagenet, imagenet, imagenet100, folder, got cifar "
        "(did you mean cifar10?)",
    ),
    ("data.root", None, "expected text, got null"),
    ("data.validation_fraction", 1.0, "expected a finite number greater than 0 and below 1, got 1.0"),
    ("data.num_views", 3, "expected a whole number from 1 to 2, got 3"),
    ("data.augmentation", "strong", "expected one of standard, weak, randaugment, none, got strong"),
    ("data.image_size", 7, "expected a whole number from 8 to 1024, or null, got 7"),
    ("data.split_seed", -1, "expected a whole number of at least 0, got -1"),
    ("optim.epochs", 0, "expected a whole number of at least 1, got 0"),
    ("optim.global_batch_size", 1, "expected a whole number of at least 2, got 1"),
    ("optim.learning_rate", 0, f"expected {POSITIVE}, got 0"),
    ("optim.momentum", 1, "expected a finite number of at least 0 and below 1, got 1"),
    ("optim.weight_decay", -1e-4, f"expected {NOT_NEGATIVE}, got -0.0001"),
    ("optim.schedule", "cosin", "expected one of cosine, step, constant, got cosin (did you mean cosine?)"),
    ("optim.warmup_epochs", -1, "expected a whole number of at least 0, got -1"),
    ("optim.step_epochs", [0], f"expected {STAGES}, got [0]"),
    ("optim.step_factor", 1, "expected a finite number greater than 0 and below 1, got 1"),
    ("optim.precision", "fp8", "expected one of fp32, bf16, fp16, fp64, got fp8"),
    ("evaluate.every_epochs", 0, "expected a whole number of at least 1, got 0"),
    ("evaluate.probe_epochs", 0, "expected a whole number of at least 1, got 0"),
    ("evaluate.probe_learning_rate", 0, f"expected {POSITIVE}, got 0"),
    ("evaluate.probe_batch_size", 0, "expected a whole number of at least 1, got 0"),
    ("evaluate.knn_neighbours", 0, "expected a whole number of at least 1, got 0"),
    ("runtime.channels_last", 1, "expected true or false, got 1"),
    ("runtime.compile", "yes", "expected true or false, got yes (did you mean true?)"),
    ("seed", -1, "expected a whole number of at least 0, got -1"),
    ("loss.temprature", 1, f"{UNKNOWN} (did you mean loss.temperature?)"),
    ("model.temperature", 1, f"{UNKNOWN} (did you mean loss.temperature?)"),
    ("xyz", 1, UNKNOWN),
]

INVALID_SECTIONS: list[tuple[dict[str, Any], str]] = [
    (
        {"los": {}},
        "los: expected one of data, model, loss, optim, evaluate, runtime, seed, got an unknown name "
        "(did you mean loss?)",
    ),
    ({"loss": 5}, "loss: expected a section with fields, got 5"),
    ({"seed": {}}, "seed: expected a whole number of at least 0, got {}"),
    (
        {"loss": {"exit_stages": [1]}},
        "loss.exit_stages: expected the name of a training field, got an unknown name "
        "(did you mean model.exit_stages?)",
    ),
    ({"loss": {"temperature": 0}}, "loss.temperature: expected a finite number greater than 0, got 0"),
    ({"data": {"num_views": 3}}, "data.num_views: expected a whole number from 1 to 2, got 3"),
]


def test_fields_and_defaults_are_as_specified() -> None:
    assert dict(DEFAULTS) == FIELDS_AND_DEFAULTS
    assert tuple(FIELDS_AND_DEFAULTS) == FIELD_NAMES


@pytest.mark.parametrize(("name", "value", "message"), INVALID_FIELDS)
def test_invalid_field_error_names_the_expected_and_the_given_value(
    name: str, value: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as refused:
        check_field(name, value)
    assert str(refused.value) == f"{name}: {message}"


@pytest.mark.parametrize(("values", "message"), INVALID_SECTIONS)
def test_invalid_sections_give_a_one_line_error(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as refused:
        TrainConfig.from_mapping(values)
    assert str(refused.value) == message


def test_every_field_has_an_invalid_case() -> None:
    assert {name for name, _, _ in INVALID_FIELDS} >= set(FIELD_NAMES)


def test_config_checks_rules_between_fields() -> None:
    with pytest.raises(
        ConfigError, match=r"^optim\.warmup_epochs: expected fewer warm-up epochs than the 5 "
    ):
        TrainConfig.from_flat({"optim.epochs": 5, "optim.warmup_epochs": 5})


@pytest.mark.parametrize("name", ["loss.temprature", "loss", "loss.temperature.x"])
def test_unknown_flat_name_is_rejected(name: str) -> None:
    with pytest.raises(ConfigError, match="expected the name of a training field"):
        TrainConfig.from_flat({name: 1})


@pytest.mark.parametrize(
    ("name", "value", "parsed"),
    [
        ("model.exit_stages", [1, 2], (1, 2)),
        ("loss.exit_weight", 1, 1.0),
        ("loss.exit_weight", [1], (1.0,)),
        ("loss.temperature", 1, 1.0),
        ("model.exit_depth", 3, 3),
        ("data.image_size", None, None),
        ("seed", 7, 7),
    ],
)
def test_parse_field_returns_the_value_of_the_config(name: str, value: Any, parsed: Any) -> None:
    found = parse_field(name, value)
    assert found == parsed
    assert type(found) is type(parsed)
    assert TrainConfig.from_flat({name: value}).flat()[name] == parsed


def test_field_annotation_accepts_dotted_names() -> None:
    assert field_annotation("loss.temperature") is float
    assert field_annotation("seed") is int
    with pytest.raises(ConfigError, match="expected the name of a training field"):
        field_annotation("temperature")


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "loss.temperature": st.floats(1e-6, 1e6),
            "loss.exit_weight": st.floats(0, 1e3) | st.tuples(st.floats(0, 1e3)),
            "model.exit_depth": st.sampled_from(["fc", "small", "same", "large"]) | st.integers(1, 100),
            "optim.warmup_epochs": st.integers(0, 99),
            "data.image_size": st.none() | st.integers(8, 1024),
            "seed": st.integers(0, 2**53),
        },
    )
)
def test_config_survives_a_round_trip_through_flat_and_json(values: dict[str, Any]) -> None:
    config = TrainConfig.from_flat(values)
    assert {name: config.flat()[name] for name in values} == values
    assert TrainConfig.from_flat(config.flat()) == config
    assert TrainConfig.from_mapping(config.model_dump(mode="json")) == config


def test_config_error_can_be_pickled() -> None:
    error = ConfigError("loss.temperature", "a number", "text", "0.1")
    copy = pickle.loads(pickle.dumps(error))
    assert str(copy) == str(error) == "loss.temperature: expected a number, got text (did you mean 0.1?)"
    assert (copy.key, copy.expected, copy.got, copy.hint) == (
        error.key,
        error.expected,
        error.got,
        error.hint,
    )
