"""TrainConfig: the complete configuration of one training run, as frozen, strictly typed models.

A field has the same dotted name (`loss.temperature`) here, in the space file, in MLflow and in errors. Values
that are malformed, out of range, in conflict with another value, or not supported by this version raise a
`ConfigError` with one line. Nothing is ignored or coerced.
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
    """The data set, and how its images are split, resized and augmented."""

    dataset: Dataset = "digits"
    """Name of the data set, or `folder` for any folder of classes."""
    root: str = "data"
    """Folder of the data set; `digits` needs none."""
    validation_fraction: Fraction = 0.1
    """Share of the training images for validation, if the data set has no validation split."""
    num_views: Annotated[int, Field(ge=1, le=2)] = 1
    """Number of augmented views of each image in a batch."""
    augmentation: Augmentation = "standard"
    """`weak`: crop and flip; `standard`: also colour jitter and grey; `randaugment`: also RandAugment."""
    image_size: Annotated[int, Field(ge=8, le=1024)] | None = None
    """Side in pixels to which images are resized; null: the default of the data set."""
    split_seed: NonNegativeInt = 0
    """Seed of the validation split; the test split does not depend on any setting."""


class ModelConfig(_Section):
    """The multi-exit network: a backbone with sub-networks after some of its stages.

    With a `width` of 64 a network is as published; other widths scale all channels in proportion.
    """

    backbone: Backbone = "resnet18"
    """Backbone network."""
    width: Annotated[int, Field(ge=4, le=1024)] = 64
    """Channels of the first stage; 64: the published network; other widths scale all channels."""
    exit_stages: IntTuple = (2,)
    """Stages followed by an exit, ascending from 1, without the last stage; []: no exits."""
    exit_depth: ExitDepth = "fc"
    """Sub-networks: `fc`: one linear layer; `small`, `same`, `large`: half, equal or twice the blocks of each
    later stage; or a number of blocks per stage."""
    projection_dim: PositiveInt = 128
    """Dimensions of the projections in the contrastive loss."""
    projection_normalization: ProjectionNormalization = "batch"
    """BatchNorm inside (`batch`) or before (`input`) the projection heads; `none`: as the authors."""
    normalization: Normalization = "batch"
    """`batch`: BatchNorm over all workers; `group`: GroupNorm; `frozen`: stored statistics."""
    weights: str | None = None
    """Initial weights of the backbone: a torchvision state dict (.pth or .safetensors)."""


class LossConfig(_Section):
    """The contrastive loss between the exits (paper, eq. 3, with weights), or cross-entropy.

    Temperatures are for the contrastive loss, weights of exits for both.
    """

    objective: Literal["contrastive", "cross_entropy"] = "contrastive"
    """Training objective: the contrastive loss between exits, or cross-entropy at every exit."""
    temperature: PositiveFloat = 0.1
    """Temperature of the contrastive loss: divisor of the similarities."""
    base_temperature: PositiveFloat = 0.07
    """The loss is multiplied by temperature / base_temperature."""
    use_labels: bool = True
    """Whether images of the same class are positives; otherwise only views and exits of the same image."""
    exit_weight: NonNegativeFloat | WeightTuple = 1.0
    """Weights of the exits relative to `backbone_weight`: a number for all, or a list with one for each."""
    backbone_weight: NonNegativeFloat = 1.0
    """Weight of the backbone."""
    backbone_contrast: Literal["all", "backbone"] = "all"
    """Contrast set of anchors of the backbone: pairs of `all` exits, or only of the `backbone`."""


class OptimConfig(_Section):
    """SGD with momentum, the learning-rate schedule, and the precision.

    `bf16` and `fp16` use autocast in the forward pass of the network; weights and loss stay float32.
    """

    epochs: PositiveInt = 100
    """Number of epochs."""
    global_batch_size: Annotated[int, Field(ge=2)] = 256
    """Images per step, over all workers."""
    learning_rate: PositiveFloat = 0.1
    """Initial learning rate of the schedule."""
    momentum: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] = 0.9
    """Momentum of SGD, without Nesterov."""
    weight_decay: NonNegativeFloat = 1e-4
    """Weight decay of SGD, on all parameters."""
    schedule: Literal["cosine", "step", "constant"] = "cosine"
    """`cosine`: to 1/1000; `step`: multiplied by `step_factor` after each of `step_epochs`; `constant`."""
    warmup_epochs: NonNegativeInt = 0
    """Epochs of linear warm-up of the learning rate; fewer than `epochs`."""
    step_epochs: IntTuple = ()
    """Ascending epochs after which `schedule: step` reduces the learning rate."""
    step_factor: Fraction = 0.1
    """Factor on the learning rate at each of `step_epochs`."""
    precision: Precision = "fp32"
    """`bf16` and `fp16`: autocast in the forward pass; `fp64`: for tests of exactness."""


class EvaluateConfig(_Section):
    """Evaluation of the frozen encoder: linear probes (the papers' SGD protocol) and nearest neighbours."""

    every_epochs: PositiveInt = 1
    """Interval of validation in epochs; the last epoch is always validated."""
    probe_epochs: PositiveInt = 100
    """Epochs of the linear probes; their learning rate is divided by 10 after 60 % and 80 %."""
    probe_learning_rate: PositiveFloat = 3.0
    """Learning rate of the linear probes."""
    probe_batch_size: PositiveInt = 512
    """Batch size of the linear probes."""
    knn_neighbours: PositiveInt = 20
    """Number of nearest training images that vote for a class."""


class RuntimeConfig(_Section):
    """Execution settings that do not change the mathematics."""

    channels_last: bool = False
    """Use the channels-last memory format, which is faster on some hardware."""
    compile: bool = False
    """Compile the network with torch.compile."""


class TrainConfig(_Section):
    """Configuration of one training run; create it with `from_mapping` or `from_flat`."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    optim: OptimConfig = OptimConfig()
    evaluate: EvaluateConfig = EvaluateConfig()
    runtime: RuntimeConfig = RuntimeConfig()
    seed: NonNegativeInt = 0
    """Random seed of initial weights, order of images, augmentation and probes."""

    @classmethod
    def from_mapping(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the validated config of nested sections, as in the `train:` section of a space file.

        Args:
            values: Sections with their fields; omitted ones have their defaults.

        Returns:
            The frozen configuration.

        Raises:
            ConfigError: A field is unknown, malformed, out of range or in conflict with another. The
                message is one line: `KEY: expected ..., got ... (did you mean ...?)`.

        Example:
            >>> config = TrainConfig.from_mapping({"loss": {"temperature": 0.2}, "seed": 1})
            >>> config.loss.temperature, config.optim.epochs, config.flat()["seed"]
            (0.2, 100, 1)
        """
        config = _validate(cls, {name: _validate_member(name, value) for name, value in values.items()})
        check_rules(config.flat())
        return config

    @classmethod
    def from_flat(cls, values: Mapping[str, Any]) -> "TrainConfig":
        """Return the validated config of dotted names; all other fields have their defaults."""
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
    """Return the type annotation of a dotted field. Raises `ConfigError` for an unknown name."""
    model, field = _model_of(name)
    return model.model_fields[field].annotation


def parse_field(name: str, value: object) -> Any:
    """Return one value as a TrainConfig holds it (lists as tuples, whole numbers of float fields as floats).

    Raises `ConfigError` for an unknown name, a wrong type or range; does not check other fields.
    """
    model, field = _model_of(name)
    return getattr(_validate(model, {field: value}, prefix=name.removesuffix(field)), field)


def check_field(name: str, value: object) -> None:
    """Check the type and range of one value. Raises `ConfigError`; does not check other fields."""
    parse_field(name, value)


def _check_name(name: str) -> None:
    if name not in FIELD_NAMES:
        raise unknown_name(name, "the name of a training field", FIELD_NAMES)


def _model_of(name: str) -> tuple[type[BaseModel], str]:
    """The model of a dotted field, and the name of the field in it."""
    _check_name(name)
    section, _, field = name.partition(".")
    return (SECTIONS[section], field) if field else (TrainConfig, section)


def _validate_member(name: str, value: object) -> object:
    """Return a section as its model, and other fields unchanged."""
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
