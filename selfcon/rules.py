"""Rules that involve several fields of a TrainConfig.

Each rule is monotone in its numbers: if it holds at the bounds of a search range, it holds inside.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from selfcon.errors import ConfigError
from selfcon.values import shown

# Number of stages of each backbone; an exit can be after any stage except the last.
NUM_STAGES: Mapping[str, int] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), 4),
    **dict.fromkeys(("wrn_16_8", "wrn_28_10"), 3),
    **dict.fromkeys(("vgg13_bn", "vgg16_bn"), 5),
    "efficientnet_b0": 7,
    "convnext_tiny": 4,
    "regnet_y_400mf": 4,
}

# Backbones without BatchNorm; only BatchNorm can be replaced.
_FIXED_NORMALIZATION: Mapping[str, str] = {"convnext_tiny": "LayerNorm"}

# Minimum image size of backbones: each stage of a VGG halves the image.
_SMALLEST_IMAGE: Mapping[str, int] = dict.fromkeys(("vgg13_bn", "vgg16_bn"), 32)

# Data sets with smaller images.
_SMALL_IMAGES: Mapping[str, int] = {"digits": 8}

Weight = float | tuple[float, ...]
Violation = tuple[str, str, str]  # field, expected, got


@dataclass(frozen=True)
class Rule:
    """Rule that involves several fields.

    `violation` gets the values of `fields` in order, and returns None if the rule holds, else (field,
    expected, got). Its docstring states the rule.
    """

    fields: tuple[str, ...]
    violation: Callable[..., Violation | None]


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, other values unchanged: YAML and JSON have only lists."""
    return tuple(value) if isinstance(value, list) else value


def check_rules(flat: Mapping[str, Any]) -> None:
    """Check every rule whose fields are all in `flat`. Raises `ConfigError` for the first violated one."""
    for rule in RULES:
        if all(name in flat for name in rule.fields):
            violation = rule.violation(*(as_tuple(flat[name]) for name in rule.fields))
            if violation:
                raise ConfigError(*violation)


def _exit_stages_ascend(exit_stages: tuple[int, ...]) -> Violation | None:
    """Each stage is listed once, in ascending order."""
    if all(a < b for a, b in itertools.pairwise(exit_stages)):
        return None
    return "model.exit_stages", "each stage once, in ascending order", shown(exit_stages)


def _exit_stages_exist(backbone: str, exit_stages: tuple[int, ...]) -> Violation | None:
    """An exit can be after any stage of the backbone except the last."""
    last = NUM_STAGES[backbone] - 1
    if all(stage <= last for stage in exit_stages):
        return None
    return (
        "model.exit_stages",
        f"stages from 1 to {last}, all but the last of {backbone}",
        shown(exit_stages),
    )


def _batch_norm_can_be_replaced(backbone: str, normalization: str) -> Violation | None:
    """Only a backbone with BatchNorm can have another normalisation."""
    if normalization == "batch" or backbone not in _FIXED_NORMALIZATION:
        return None
    expected = f"batch, as {backbone} has {_FIXED_NORMALIZATION[backbone]} and no BatchNorm to replace"
    return "model.normalization", expected, normalization


def _image_is_large_enough(backbone: str, image_size: int | None) -> Violation | None:
    """A VGG needs images of at least 32 pixels."""
    smallest = _SMALLEST_IMAGE.get(backbone, 1)
    if image_size is None or image_size >= smallest:
        return None
    return "data.image_size", f"images of at least {smallest} pixels for {backbone}", shown(image_size)


def _default_image_is_large_enough(backbone: str, dataset: str, image_size: int | None) -> Violation | None:
    """The same for the default image size of the data set."""
    if image_size is not None:
        return None
    return _image_is_large_enough(backbone, _SMALL_IMAGES.get(dataset))


def _one_weight_per_exit(exit_weight: Weight, exit_stages: tuple[int, ...]) -> Violation | None:
    """A list of weights has one weight for each exit."""
    if not isinstance(exit_weight, tuple) or len(exit_weight) == len(exit_stages):
        return None
    expected = f"a number, or a list of {len(exit_stages)}, one for each of model.exit_stages"
    return "loss.exit_weight", expected, shown(exit_weight)


def _some_weight_is_positive(
    exit_weight: Weight, backbone_weight: float, exit_stages: tuple[int, ...]
) -> Violation | None:
    """At least one weight, of the backbone or of an exit, is above 0."""
    if backbone_weight > 0 or (exit_stages and _largest(exit_weight) > 0):
        return None
    return "loss.backbone_weight", "a weight above 0 on the backbone or on an exit", "only weights of 0"


def _a_positive_exists(
    use_labels: bool,
    num_views: int,
    exit_stages: tuple[int, ...],
    backbone_contrast: str,
    exit_weight: Weight,
) -> Violation | None:
    """Anchors have positives: from labels, a second view, or a contrasted exit."""
    if use_labels or num_views > 1:
        return None
    if exit_stages and (backbone_contrast == "all" or _largest(exit_weight) > 0):
        return None
    return (
        "loss.use_labels",
        "labels, two views or a contrasted exit, so that an anchor has a positive",
        "none of them",
    )


def _cross_entropy_has_labels(objective: str, use_labels: bool) -> Violation | None:
    """Cross-entropy needs labels."""
    if use_labels or objective != "cross_entropy":
        return None
    return "loss.use_labels", "true with the objective cross_entropy, which needs labels", "false"


def _cross_entropy_has_no_contrast(objective: str, backbone_contrast: str) -> Violation | None:
    """Cross-entropy has no contrast set."""
    if backbone_contrast == "all" or objective != "cross_entropy":
        return None
    return "loss.backbone_contrast", "all (the default) with the objective cross_entropy", backbone_contrast


def _warmup_is_shorter(warmup_epochs: int, epochs: int) -> Violation | None:
    """Warm-up is shorter than training."""
    if warmup_epochs < epochs:
        return None
    return (
        "optim.warmup_epochs",
        f"fewer warm-up epochs than the {epochs} of optim.epochs",
        shown(warmup_epochs),
    )


def _step_epochs_match_schedule(schedule: str, step_epochs: tuple[int, ...]) -> Violation | None:
    """`step_epochs` is set if and only if the schedule is `step`."""
    if (schedule == "step") == bool(step_epochs):
        return None
    if schedule == "step":
        return "optim.step_epochs", "the epochs after which the step schedule reduces the learning rate", "[]"
    return "optim.step_epochs", f"[] with the {schedule} schedule", shown(step_epochs)


def _step_epochs_ascend(step_epochs: tuple[int, ...], epochs: int) -> Violation | None:
    """`step_epochs` are ascending and below `epochs`."""
    if all(a < b for a, b in zip(step_epochs, (*step_epochs[1:], epochs), strict=False)):
        return None
    return "optim.step_epochs", f"ascending epochs below the {epochs} of optim.epochs", shown(step_epochs)


def _largest(weight: Weight) -> float:
    return max(weight, default=0.0) if isinstance(weight, tuple) else weight


RULES: tuple[Rule, ...] = (
    Rule(("model.exit_stages",), _exit_stages_ascend),
    Rule(("model.backbone", "model.exit_stages"), _exit_stages_exist),
    Rule(("model.backbone", "model.normalization"), _batch_norm_can_be_replaced),
    Rule(("model.backbone", "data.image_size"), _image_is_large_enough),
    Rule(("model.backbone", "data.dataset", "data.image_size"), _default_image_is_large_enough),
    Rule(("loss.exit_weight", "model.exit_stages"), _one_weight_per_exit),
    Rule(("loss.exit_weight", "loss.backbone_weight", "model.exit_stages"), _some_weight_is_positive),
    Rule(
        (
            "loss.use_labels",
            "data.num_views",
            "model.exit_stages",
            "loss.backbone_contrast",
            "loss.exit_weight",
        ),
        _a_positive_exists,
    ),
    Rule(("loss.objective", "loss.use_labels"), _cross_entropy_has_labels),
    Rule(("loss.objective", "loss.backbone_contrast"), _cross_entropy_has_no_contrast),
    Rule(("optim.warmup_epochs", "optim.epochs"), _warmup_is_shorter),
    Rule(("optim.schedule", "optim.step_epochs"), _step_epochs_match_schedule),
    Rule(("optim.step_epochs", "optim.epochs"), _step_epochs_ascend),
)
