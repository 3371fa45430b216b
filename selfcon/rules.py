"""Conditions that tie several fields of a TrainConfig together.

Each rule is monotone in its numbers, so what holds at the ends of a search's ranges holds inside them.
"""

import itertools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from selfcon.errors import ConfigError
from selfcon.values import shown

# Stages of each backbone; an exit may leave after any but the last.
NUM_STAGES: Mapping[str, int] = {
    **dict.fromkeys(("resnet18", "resnet34", "resnet50", "resnet101"), 4),
    **dict.fromkeys(("wrn_16_8", "wrn_28_10"), 3),
    **dict.fromkeys(("vgg13_bn", "vgg16_bn"), 5),
    "efficientnet_b0": 7,
    "convnext_tiny": 4,
    "regnet_y_400mf": 4,
}

# Backbones that normalise without BatchNorm, which alone can be replaced.
_OWN_NORMALIZATION: Mapping[str, str] = {"convnext_tiny": "LayerNorm"}

# Backbones of which nothing is left of a smaller image: each stage of a VGG halves it.
_SMALLEST_IMAGE: Mapping[str, int] = dict.fromkeys(("vgg13_bn", "vgg16_bn"), 32)

# Data sets whose own images are smaller than that.
_SMALL_IMAGES: Mapping[str, int] = {"digits": 8}

Weight = float | tuple[float, ...]
Violation = tuple[str, str, str]  # the field to blame, what is expected, what was got


@dataclass(frozen=True)
class Rule:
    """A condition that ties several fields together.

    `violation` takes the values of `fields` in order and returns None where the condition holds, else
    (the field to blame, what is expected, what was got); its docstring says what must hold.
    """

    fields: tuple[str, ...]
    violation: Callable[..., Violation | None]


def as_tuple(value: Any) -> Any:
    """Return a list as a tuple, anything else as it is: YAML and JSON know lists only."""
    return tuple(value) if isinstance(value, list) else value


def check_rules(flat: Mapping[str, Any]) -> None:
    """Check every rule whose fields are all in `flat`. Raises `ConfigError` for the first broken one."""
    for rule in RULES:
        if all(name in flat for name in rule.fields):
            broken = rule.violation(*(as_tuple(flat[name]) for name in rule.fields))
            if broken:
                raise ConfigError(*broken)


def _exits_rise(exit_stages: tuple[int, ...]) -> Violation | None:
    """Each stage once, in rising order."""
    """Each stage once, in rising order."""
    if all(a < b for a, b in itertools.pairwise(exit_stages)):
        return None
    return "model.exit_stages", "each stage once, in rising order", shown(exit_stages)


def _exits_leave_the_backbone(backbone: str, exit_stages: tuple[int, ...]) -> Violation | None:
    """An exit leaves after any stage of the backbone but its last."""
    """An exit leaves after any stage of the backbone but its last."""
    last = NUM_STAGES[backbone] - 1
    if all(stage <= last for stage in exit_stages):
        return None
    return (
        "model.exit_stages",
        f"stages from 1 to {last}, after which {backbone} can be left",
        shown(exit_stages),
    )


def _batch_norm_can_be_replaced(backbone: str, normalization: str) -> Violation | None:
    """Only a backbone with BatchNorm can have another normalisation."""
    """Only a backbone with BatchNorm can have another normalisation."""
    if normalization == "batch" or backbone not in _OWN_NORMALIZATION:
        return None
    expected = f"batch, as {backbone} has {_OWN_NORMALIZATION[backbone]} and no BatchNorm to be replaced"
    return "model.normalization", expected, normalization


def _something_is_left_of_an_image(backbone: str, image_size: int | None) -> Violation | None:
    """A VGG needs images of 32 pixels."""
    """A VGG needs images of 32 pixels."""
    smallest = _SMALLEST_IMAGE.get(backbone, 1)
    if image_size is None or image_size >= smallest:
        return None
    return "data.image_size", f"images of at least {smallest} pixels for {backbone}", shown(image_size)


def _something_is_left_of_the_data_sets_images(
    backbone: str, dataset: str, image_size: int | None
) -> Violation | None:
    """The same where the data set's own images are smaller."""
    """The same where the data set's own images are smaller."""
    if image_size is not None:
        return None
    return _something_is_left_of_an_image(backbone, _SMALL_IMAGES.get(dataset))


def _one_weight_per_exit(exit_weight: Weight, exit_stages: tuple[int, ...]) -> Violation | None:
    """A list of weights has one for each exit."""
    """A list of weights has one for each exit."""
    if not isinstance(exit_weight, tuple) or len(exit_weight) == len(exit_stages):
        return None
    expected = f"a number, or a list of {len(exit_stages)}, one for each of model.exit_stages"
    return "loss.exit_weight", expected, shown(exit_weight)


def _something_is_weighted(
    exit_weight: Weight, backbone_weight: float, exit_stages: tuple[int, ...]
) -> Violation | None:
    """A weight is above 0, of the backbone or of an exit."""
    """A weight is above 0, of the backbone or of an exit."""
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
    """An anchor has a positive: by labels, by a second view, or by an exit that is contrasted."""
    """An anchor has a positive: by labels, by a second view, or by an exit that is contrasted."""
    if use_labels or num_views > 1:
        return None
    if exit_stages and (backbone_contrast == "all" or _largest(exit_weight) > 0):
        return None
    return (
        "loss.use_labels",
        "labels, two views or a contrasted exit, so that an anchor has a positive",
        "none of them",
    )


def _classes_are_labels(objective: str, use_labels: bool) -> Violation | None:
    """Cross-entropy needs labels."""
    """Cross-entropy needs labels."""
    if use_labels or objective != "cross_entropy":
        return None
    return "loss.use_labels", "true with the objective cross_entropy, which has nothing but labels", "false"


def _cross_entropy_contrasts_nothing(objective: str, backbone_contrast: str) -> Violation | None:
    """Cross-entropy has no pairs to choose."""
    """Cross-entropy has no pairs to choose."""
    if backbone_contrast == "all" or objective != "cross_entropy":
        return None
    return "loss.backbone_contrast", "all (the default) with the objective cross_entropy", backbone_contrast


def _warmup_ends(warmup_epochs: int, epochs: int) -> Violation | None:
    """The warm-up is shorter than the training."""
    """The warm-up is shorter than the training."""
    if warmup_epochs < epochs:
        return None
    return (
        "optim.warmup_epochs",
        f"fewer warm-up epochs than the {epochs} of optim.epochs",
        shown(warmup_epochs),
    )


def _steps_belong_to_the_schedule(schedule: str, step_epochs: tuple[int, ...]) -> Violation | None:
    """Steps are given with the step schedule, and only with it."""
    """Steps are given with the step schedule, and only with it."""
    if (schedule == "step") == bool(step_epochs):
        return None
    if schedule == "step":
        return "optim.step_epochs", "the epochs after which the step schedule lowers the learning rate", "[]"
    return "optim.step_epochs", f"[] with the {schedule} schedule", shown(step_epochs)


def _steps_rise_to_the_end(step_epochs: tuple[int, ...], epochs: int) -> Violation | None:
    """Steps rise and come before the end."""
    """Steps rise and come before the end."""
    if all(a < b for a, b in zip(step_epochs, (*step_epochs[1:], epochs), strict=False)):
        return None
    return "optim.step_epochs", f"rising epochs below the {epochs} of optim.epochs", shown(step_epochs)


def _largest(weight: Weight) -> float:
    return max(weight, default=0.0) if isinstance(weight, tuple) else weight


RULES: tuple[Rule, ...] = (
    Rule(("model.exit_stages",), _exits_rise),
    Rule(("model.backbone", "model.exit_stages"), _exits_leave_the_backbone),
    Rule(("model.backbone", "model.normalization"), _batch_norm_can_be_replaced),
    Rule(("model.backbone", "data.image_size"), _something_is_left_of_an_image),
    Rule(("model.backbone", "data.dataset", "data.image_size"), _something_is_left_of_the_data_sets_images),
    Rule(("loss.exit_weight", "model.exit_stages"), _one_weight_per_exit),
    Rule(("loss.exit_weight", "loss.backbone_weight", "model.exit_stages"), _something_is_weighted),
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
    Rule(("loss.objective", "loss.use_labels"), _classes_are_labels),
    Rule(("loss.objective", "loss.backbone_contrast"), _cross_entropy_contrasts_nothing),
    Rule(("optim.warmup_epochs", "optim.epochs"), _warmup_ends),
    Rule(("optim.schedule", "optim.step_epochs"), _steps_belong_to_the_schedule),
    Rule(("optim.step_epochs", "optim.epochs"), _steps_rise_to_the_end),
)
