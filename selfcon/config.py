"""TrainConfig: everything that decides one training run, as frozen, strictly typed models.

A dotted field name (`loss.temperature`) is the same word here, in the search-space file, in MLflow and in
every error. A value that is malformed, out of range, impossible together with another, or not supported by
this version is refused with a `ConfigError` of one line; nothing is ever ignored or coerced.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from selfcon.errors import ConfigError, nearest


def _as_tuple(value: object) -> object:
    """YAML and JSON know lists only; strict pydantic wants the tuple it is to become."""
    return tuple(value) if isinstance(value, list) else value


PositiveFloat = Annotated[float, Field(gt=0, lt=math.inf, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, lt=math.inf, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
IntTuple = Annotated[tuple[PositiveInt, ...], BeforeValidator(_as_tuple)]
WeightTuple = Annotated[tuple[NonNegativeFloat, ...], BeforeValidator(_as_tuple)]

Dataset = Literal["digits", "cifar10", "cifar100", "tinyimagenet", "imagenet", "imagenet100", "folder"]
Augmentation = Literal["standard", "weak", "randaugment", "none"]
Backbone = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "wrn_16_8", "wrn_28_10", "vgg13_bn", "vgg16_bn",
    "efficientnet_b0", "convnext_tiny", "regnet_y_400mf",
]  # fmt: skip
ExitDepth = Literal["fc", "small", "same", "large"] | PositiveInt
Normalization = Literal["batch", "group", "frozen"]

# Stages of each backbone; an exit may leave after any but the last.
NUM_STAGES: Mapping[str, int] = {name: 4 for name in ("resnet18", "resnet34", "resnet50", "resnet101")}


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class DataConfig(_Section):
    """What is trained on, and how the images are split, resized and augmented."""

    dataset: Dataset = "digits"
    root: str = "data"
    validation_fraction: Fraction = 0.1
    num_views: Annotated[int, Field(ge=1, le=2)] = 1
    augmentation: Augmentation = "standard"
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    split_seed: NonNegativeInt = 0


class ModelConfig(_Section):
    """The multi-exit network: a backbone, and sub-networks that leave it after some stages."""

    backbone: Backbone = "resnet18"
    width: Annotated[int, Field(ge=4, le=1024)] = 64
    exit_stages: IntTuple = (2,)
    exit_depth: ExitDepth = "fc"
    projection_dim: PositiveInt = 128
    projection_normalization: Literal["batch", "none"] = "batch"
    normalization: Normalization = "batch"
    weights: str | None = None


class LossConfig(_Section):
    """The contrastive loss between the exits (paper, eq. 3, and its weighted relatives)."""

    objective: Literal["contrastive", "cross_entropy"] = "contrastive"
    temperature: PositiveFloat = 0.1
    base_temperature: PositiveFloat = 0.07
    use_labels: bool = True
    exit_weight: NonNegativeFloat | WeightTuple = 1.0
    backbone_weight: NonNegativeFloat = 1.0
    backbone_contrast: Literal["all", "backbone"] = "all"


class OptimConfig(_Section):
    """Stochastic gradient descent with momentum, its schedule and its arithmetic."""

    epochs: PositiveInt = 100
    global_batch_size: Annotated[int, Field(ge=2)] = 256
    learning_rate: PositiveFloat = 0.1
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    weight_decay: NonNegativeFloat = 1e-4
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    warmup_epochs: NonNegativeInt = 0
    step_epochs: IntTuple = ()
    step_factor: Fraction = 0.1
    precision: Literal["fp32", "bf16", "fp16", "fp64"] = "fp32"


class EvaluateConfig(_Section):
    """How a frozen encoder is judged: linear probes (the papers' SGD protocol) and nearest neighbours."""

    every_epochs: PositiveInt = 1
    probe_epochs: PositiveInt = 100
    probe_learning_rate: PositiveFloat = 3.0
    probe_batch_size: PositiveInt = 512
    knn_neighbours: PositiveInt = 20


class RuntimeConfig(_Section):
    """How the same mathematics is executed."""

    channels_last: bool = False
    compile: bool = False


@dataclass(frozen=True)
class Rule:
    """A condition that ties several fields together.

    `violation` takes the values of `fields` in order and returns None where the condition holds, else
    (the field to blame, what is expected, what was got).
    """

    fields: tuple[str, ...]
    violation: Callable[..., tuple[str, str, str] | None]


def _exits_leave_the_backbone(backbone: str, exit_stages: tuple[int, ...]) -> tuple[str, str, str] | None:
    last = NUM_STAGES[backbone] - 1
    if all(stage <= last for stage in exit_stages):
        return None
    return "model.exit_stages", f"stages from 1 to {last}, after which {backbone} can be left", _shown(exit_stages)


def _exits_rise(exit_stages: tuple[int, ...]) -> tuple[str, str, str] | None:
    if all(a < b for a, b in zip(exit_stages, exit_stages[1:], strict=False)):
        return None
    return "model.exit_stages", "each stage once, in rising order", _shown(exit_stages)


def _one_weight_per_exit(exit_weight: float | tuple[float, ...], exit_stages: tuple[int, ...]) -> tuple[str, str, str] | None:
    if not isinstance(exit_weight, tuple) or len(exit_weight) == len(exit_stages):
        return None
    return "loss.exit_weight", f"a number, or one for each of the {len(exit_stages)} exits", _shown(exit_weight)


def _something_is_weighted(
    exit_weight: float | tuple[float, ...], backbone_weight: float, exit_stages: tuple[int, ...]
) -> tuple[str, str, str] | None:
    if backbone_weight > 0 or (exit_stages and _largest(exit_weight) > 0):
        return None
    return "loss.backbone_weight", "a weight above 0 on the backbone or on an exit", "only weights of 0"


def _a_positive_exists(
    use_labels: bool,
    num_views: int,
    exit_stages: tuple[int, ...],
    backbone_contrast: str,
    exit_weight: float | tuple[float, ...],
) -> tuple[str, str, str] | None:
    if use_labels or num_views > 1:
        return None
    if exit_stages and (backbone_contrast == "all" or _largest(exit_weight) > 0):
        return None
    return "loss.use_labels", "labels, two views or a contrasted exit, so that an anchor has a positive", "none of them"


def _warmup_ends(warmup_epochs: int, epochs: int) -> tuple[str, str, str] | None:
    if warmup_epochs < epochs:
        return None
    return "optim.warmup_epochs", f"fewer warm-up epochs than the {epochs} of optim.epochs", str(warmup_epochs)


def _steps_fit_the_schedule(schedule: str, step_epochs: tuple[int, ...], epochs: int) -> tuple[str, str, str] | None:
    if schedule != "step":
        return None if not step_epochs else ("optim.step_epochs", "[] unless optim.schedule is step", _shown(step_epochs))
    if step_epochs and all(a < b for a, b in zip(step_epochs, (*step_epochs[1:], epochs), strict=True)):
        return None
    return "optim.step_epochs", f"rising epochs below the {epochs} of optim.epochs", _shown(step_epochs)


RULES: tuple[Rule, ...] = (
    Rule(("model.exit_stages",), _exits_rise),
    Rule(("model.backbone", "model.exit_stages"), _exits_leave_the_backbone),
    Rule(("loss.exit_weight", "model.exit_stages"), _one_weight_per_exit),
    Rule(("loss.exit_weight", "loss.backbone_weight", "model.exit_stages"), _something_is_weighted),
    Rule(
        ("loss.use_labels", "data.num_views", "model.exit_stages", "loss.backbone_contrast", "loss.exit_weight"),
        _a_positive_exists,
    ),
    Rule(("optim.warmup_epochs", "optim.epochs"), _warmup_ends),
    Rule(("optim.schedule", "optim.step_epochs", "optim.epochs"), _steps_fit_the_schedule),
)

# Words of the contract that this version cannot act on yet: refused by name, never ignored.
SUPPORTED: Mapping[str, tuple[object, ...]] = {
    "data.dataset": ("digits",),
    "data.augmentation": ("standard", "weak", "none"),
    "model.backbone": tuple(NUM_STAGES),
    "model.weights": (None,),
    "loss.objective": ("contrastive",),
    "optim.precision": ("fp32", "fp64"),
    "runtime.channels_last": (False,),
    "runtime.compile": (False,),
}


class TrainConfig(_Section):
    """One training run. Build it with `from_mapping` or `from_flat`, which raise `ConfigError`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    seed: NonNegativeInt = 0

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the validated config of nested sections, as the `train:` part of a space file has them.

        Raises `ConfigError` for the first field that is unknown, malformed, out of range, unsupported or
        in conflict with another.
        """
        try:
            config = cls.model_validate({key: dict(value) if isinstance(value, Mapping) else value for key, value in values.items()})
        except ValidationError as error:
            raise _config_error(error) from None
        flat = config.flat()
        for name, value in flat.items():
            _check_supported(name, value)
        check_rules(flat)
        return config

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the validated config of dotted names; what is not named has its default."""
        nested: dict[str, Any] = {}
        for name, value in values.items():
            section, _, field = name.partition(".")
            if field:
                nested.setdefault(section, {})[field] = value
            else:
                nested[section] = value
        return cls.from_mapping(nested)

    def flat(self) -> dict[str, Any]:
        """Return every field by its dotted name, in order; lists are tuples."""
        fields: dict[str, Any] = {}
        for section, value in self:
            if isinstance(value, _Section):
                fields |= {f"{section}.{field}": item for field, item in value}
            else:
                fields[section] = value
        return fields


FIELD_NAMES: tuple[str, ...] = tuple(TrainConfig().flat())


def field_annotation(name: str) -> Any:
    """Return the type annotation of a dotted field. Raises `ConfigError` for a name that is not one."""
    if name not in FIELD_NAMES:
        raise ConfigError(name, "the name of a training field", "an unknown name", nearest(name, FIELD_NAMES))
    section, _, field = name.partition(".")
    model = TrainConfig.model_fields[section].annotation
    if not field:
        return model
    assert isinstance(model, type)
    assert issubclass(model, BaseModel)
    return model.model_fields[field].annotation


def check_field(name: str, value: object) -> None:
    """Check one value alone: type, range, support. Raises `ConfigError`; other fields are not looked at."""
    field_annotation(name)
    section, _, field = name.partition(".")
    try:
        TrainConfig.model_validate({section: {field: value} if field else value})
    except ValidationError as error:
        raise _config_error(error) from None
    _check_supported(name, value)


def check_rules(flat: Mapping[str, Any]) -> None:
    """Check every rule whose fields are all present in `flat`. Raises `ConfigError` for the first broken one."""
    for rule in RULES:
        if all(name in flat for name in rule.fields):
            broken = rule.violation(*(_as_tuple(flat[name]) for name in rule.fields))
            if broken:
                raise ConfigError(*broken)


def _check_supported(name: str, value: object) -> None:
    supported = SUPPORTED.get(name)
    if supported is not None and value not in supported:
        words = ", ".join(_shown(word) for word in supported)
        raise ConfigError(name, f"{words} (nothing else is built yet in this version)", _shown(value))


def _config_error(error: ValidationError) -> ConfigError:
    """Turn pydantic's first complaint into our one line, with the nearest valid name."""
    first = error.errors(include_url=False)[0]
    # The union members' tags end a location: ('model', 'exit_depth', 'literal[...]').
    parts = [part for part in first["loc"] if isinstance(part, str)]
    section, name = parts[0], ".".join(parts[:2])
    if name not in FIELD_NAMES:
        return _unknown_name(section, name, first)
    got = error.errors(include_url=False)[0]["input"] if len(error.errors()) == 1 else _input_at(error)
    words = _words(field_annotation(name))
    hint = nearest(got, words) if isinstance(got, str) else None
    return ConfigError(name, _expectation(name, first), _shown(got), hint)


def _unknown_name(section: str, name: str, first: Any) -> ConfigError:
    if section not in TrainConfig.model_fields:
        return ConfigError(section, "a section of TrainConfig", "an unknown name", nearest(section, TrainConfig.model_fields))
    if name == section:
        return ConfigError(section, "a section with fields", _shown(first["input"]))
    return ConfigError(name, "the name of a training field", "an unknown name", nearest(name, FIELD_NAMES))


def _input_at(error: ValidationError) -> object:
    """The whole value of the field the first complaint is about (a union complains once a member)."""
    loc = error.errors(include_url=False)[0]["loc"]
    inputs = [item["input"] for item in error.errors(include_url=False) if item["loc"][:2] == loc[:2]]
    return inputs[0]


def _expectation(name: str, first: Any) -> str:
    """What must hold, in words; a field of several kinds lists them all."""
    annotation = field_annotation(name)
    words = _words(annotation)
    kinds = [f"one of {', '.join(words)}"] if words else []
    if words and annotation is ExitDepth:
        kinds.append("a number of blocks of at least 1")
    if kinds:
        return " or ".join(kinds)
    message = str(first["msg"]).removeprefix("Input should be ").removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _words(annotation: Any) -> list[str]:
    """The strings of a Literal, also inside a union."""
    arguments = get_args(annotation)
    if arguments and all(isinstance(item, str) for item in arguments):
        return list(arguments)
    return [word for item in arguments if not isinstance(item, str) for word in _words(item)]


def _largest(weight: float | tuple[float, ...]) -> float:
    return max(weight) if isinstance(weight, tuple) else weight


def _shown(value: object) -> str:
    """A value as the user would have written it."""
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_shown(item) for item in value) + "]"
    if isinstance(value, bool) or value is None:
        return str(value).lower().replace("none", "null")
    return str(value)
