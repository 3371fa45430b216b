"""TrainConfig: everything that decides one training run, as frozen, strictly typed models.

A dotted field name (`loss.temperature`) is the same word here, in the search-space file, in MLflow and in
every error. A value that is malformed, out of range, impossible together with another, or not supported by
this version is refused with a `ConfigError` of one line; nothing is ever ignored or coerced.
"""

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from selfcon.errors import ConfigError
from selfcon.rules import NUM_STAGES, RULES, Rule, as_tuple, check_rules
from selfcon.validation import explain, unknown_name
from selfcon.values import shown

__all__ = [
    "DEFAULTS", "FIELD_NAMES", "NUM_STAGES", "RULES", "SECTIONS", "DataConfig", "EvaluateConfig",
    "LossConfig", "ModelConfig", "OptimConfig", "Precision", "Rule", "RuntimeConfig", "TrainConfig",
    "check_field", "check_rules", "field_annotation", "parse_field",
]  # fmt: skip

M = TypeVar("M", bound=BaseModel)

PositiveFloat = Annotated[float, Field(gt=0, lt=math.inf, allow_inf_nan=False)]
NonNegativeFloat = Annotated[float, Field(ge=0, lt=math.inf, allow_inf_nan=False)]
Fraction = Annotated[float, Field(gt=0, lt=1, allow_inf_nan=False)]
PositiveInt = Annotated[int, Field(ge=1)]
NonNegativeInt = Annotated[int, Field(ge=0)]
IntTuple = Annotated[tuple[PositiveInt, ...], BeforeValidator(as_tuple)]
WeightTuple = Annotated[tuple[NonNegativeFloat, ...], BeforeValidator(as_tuple)]

Dataset = Literal["digits", "cifar10", "cifar100", "tinyimagenet", "imagenet", "imagenet100", "folder"]
Augmentation = Literal["standard", "weak", "randaugment", "none"]
Backbone = Literal[
    "resnet18", "resnet34", "resnet50", "resnet101", "wrn_16_8", "wrn_28_10", "vgg13_bn", "vgg16_bn",
    "efficientnet_b0", "convnext_tiny", "regnet_y_400mf",
]  # fmt: skip
ExitDepth = Literal["fc", "small", "same", "large"] | PositiveInt
Normalization = Literal["batch", "group", "frozen"]
ProjectionNormalization = Literal["batch", "input", "none"]
Precision = Literal["fp32", "bf16", "fp16", "fp64"]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid")


class DataConfig(_Section):
    """What is trained on, and how the images are split, resized and augmented."""

    dataset: Dataset = "digits"
    """The images: a name, or `folder` for any folder of classes."""
    root: str = "data"
    """The folder that the data set lies in; `digits` reads none."""
    validation_fraction: Fraction = 0.1
    """The share of the training images that trials are judged on, unless the data set has a part for it."""
    num_views: Annotated[int, Field(ge=1, le=2)] = 1
    """How many augmented views of each image a batch holds."""
    augmentation: Augmentation = "standard"
    """`weak`: crop and flip; `standard`: colours and grey too; `randaugment`: RandAugment before these."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """The side in pixels that images are resized to; null is the data set's own."""
    split_seed: NonNegativeInt = 0
    """Draws the images that are split off for validation; no setting changes the test part."""


class ModelConfig(_Section):
    """The multi-exit network: a backbone, and sub-networks that leave it after some stages.

    A `width` of 64 is every network as published; another scales all its channels in proportion.
    """

    backbone: Backbone = "resnet18"
    """The network whose last features are the product."""
    width: Annotated[int, Field(ge=4, le=1024)] = 64
    """The channels of the first stage; 64 is each network as published, all others scale in proportion."""
    exit_stages: IntTuple = (2,)
    """The stages, rising from 1, after which a sub-network leaves: none after the last; [] for no exit."""
    exit_depth: ExitDepth = "fc"
    """What a sub-network is: `fc` one linear layer, `small`, `same` or `large` half, as many or twice the
    blocks of each later stage, or a number of blocks."""
    projection_dim: PositiveInt = 128
    """The dimensions of the projections that the contrastive loss compares."""
    projection_normalization: ProjectionNormalization = "batch"
    """BatchNorm inside the projection heads (`batch`) or in front of them (`input`); `none`: the authors'."""
    normalization: Normalization = "batch"
    """`batch`: over the images of all workers; `group`: GroupNorm; `frozen`: stored statistics."""
    weights: str | None = None
    """A torchvision state dict (.pth or .safetensors) that the backbone starts from."""


class LossConfig(_Section):
    """The contrastive loss between the exits (paper, eq. 3, and its weighted relatives), or cross-entropy.

    Temperatures belong to the contrastive loss; the weights of the exits to both.
    """

    objective: Literal["contrastive", "cross_entropy"] = "contrastive"
    """What is minimised: the contrastive loss between exits, or cross-entropy at every exit."""
    temperature: PositiveFloat = 0.1
    """What similarities are divided by in the contrastive loss."""
    base_temperature: PositiveFloat = 0.07
    """The loss is multiplied by temperature / base_temperature."""
    use_labels: bool = True
    """Whether images of a class are positives; without, only the views and exits of an image are."""
    exit_weight: NonNegativeFloat | WeightTuple = 1.0
    """How much the exits count beside `backbone_weight`: a number for all, or a list with one for each."""
    backbone_weight: NonNegativeFloat = 1.0
    """How much the backbone counts."""
    backbone_contrast: Literal["all", "backbone"] = "all"
    """Which pairs the backbone's anchors see: those of `all` exits, or the `backbone`'s alone."""


class OptimConfig(_Section):
    """Stochastic gradient descent with momentum, its schedule and its arithmetic.

    `bf16` and `fp16` are autocast around the network's forward pass; weights and loss stay float32.
    """

    epochs: PositiveInt = 100
    """Passes over the training images."""
    global_batch_size: Annotated[int, Field(ge=2)] = 256
    """The images of a step, over all workers together."""
    learning_rate: PositiveFloat = 0.1
    """The learning rate that the schedule begins with."""
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    """SGD's, without Nesterov."""
    weight_decay: NonNegativeFloat = 1e-4
    """SGD's, on all parameters."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """`cosine`: down to a thousandth; `step`: times `step_factor` after each of `step_epochs`; `constant`."""
    warmup_epochs: NonNegativeInt = 0
    """The learning rate rises to the schedule's over so many epochs; fewer than `epochs`."""
    step_epochs: IntTuple = ()
    """Rising epochs after which `schedule: step` lowers the learning rate."""
    step_factor: Fraction = 0.1
    """What each step multiplies the learning rate by."""
    precision: Precision = "fp32"
    """`bf16` and `fp16` are autocast around the forward pass; `fp64` is for checking exactness."""


class EvaluateConfig(_Section):
    """How a frozen encoder is judged: linear probes (the papers' SGD protocol) and nearest neighbours."""

    every_epochs: PositiveInt = 1
    """Validation after every so many epochs, and after the last."""
    probe_epochs: PositiveInt = 100
    """Epochs of the linear probes; a tenth of the learning rate after 60 % and again after 80 %."""
    probe_learning_rate: PositiveFloat = 3.0
    """The linear probes' learning rate."""
    probe_batch_size: PositiveInt = 512
    """The linear probes' batch size."""
    knn_neighbours: PositiveInt = 20
    """How many nearest training images vote for a class."""


class RuntimeConfig(_Section):
    """How the same mathematics is executed."""

    channels_last: bool = False
    """Lay images and weights out with channels last: faster on some hardware."""
    compile: bool = False
    """Compile the network with torch.compile."""


class TrainConfig(_Section):
    """One training run. Build it with `from_mapping` or `from_flat`, which raise `ConfigError`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    seed: NonNegativeInt = 0
    """Initial weights, order of the images, augmentation, probes."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the validated config of nested sections, as the `train:` part of a space file has them.

        Raises `ConfigError` for the first field that is unknown, malformed, out of range or in conflict
        with another.
        """
        config = _validate(cls, {name: _validate_member(name, value) for name, value in values.items()})
        check_rules(config.flat())
        return config

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the validated config of dotted names; what is not named has its default."""
        nested: dict[str, Any] = {}
        for name, value in values.items():
            _check_name(name)
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


SECTIONS: Mapping[str, type[BaseModel]] = {
    "data": DataConfig,
    "model": ModelConfig,
    "loss": LossConfig,
    "optim": OptimConfig,
    "evaluate": EvaluateConfig,
    "runtime": RuntimeConfig,
}

DEFAULTS: Mapping[str, Any] = TrainConfig().flat()
FIELD_NAMES: tuple[str, ...] = tuple(DEFAULTS)


def field_annotation(name: str) -> Any:
    """Return the type annotation of a dotted field. Raises `ConfigError` for a name that is not one."""
    model, field = _model_of(name)
    return model.model_fields[field].annotation


def parse_field(name: str, value: object) -> Any:
    """Return one value as a TrainConfig holds it (lists as tuples, whole numbers of float fields as floats).

    Raises `ConfigError` for an unknown name, a wrong type or range; other fields are not looked at.
    """
    model, field = _model_of(name)
    return getattr(_validate(model, {field: value}, prefix=name.removesuffix(field)), field)


def check_field(name: str, value: object) -> None:
    """Check one value alone: type and range. Raises `ConfigError`; other fields are not looked at."""
    parse_field(name, value)


def _check_name(name: str) -> None:
    if name not in FIELD_NAMES:
        raise unknown_name(name, "the name of a training field", FIELD_NAMES)


def _model_of(name: str) -> tuple[type[BaseModel], str]:
    """The model that holds a dotted field, and the field's name in it."""
    _check_name(name)
    section, _, field = name.partition(".")
    return (SECTIONS[section], field) if field else (TrainConfig, section)


def _validate_member(name: str, value: object) -> object:
    """Return a section as its model and a field without a section as it is."""
    if name not in TrainConfig.model_fields:
        raise unknown_name(name, f"one of {', '.join(TrainConfig.model_fields)}", TrainConfig.model_fields)
    section = SECTIONS.get(name)
    if section is None or isinstance(value, section):
        return value
    if not isinstance(value, Mapping):
        raise ConfigError(name, "a section with fields", shown(value))
    for field in value:
        _check_name(f"{name}.{field}")
    return _validate(section, value, prefix=f"{name}.")


def _validate(model: type[M], values: Mapping[str, Any], *, prefix: str = "") -> M:
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        raise explain(model, values, error, prefix=prefix) from None
