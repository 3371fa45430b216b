"""Detection of collapsed runs.

If all features are the same vector, all logits are equal, and the contrastive loss of an anchor is the
logarithm of the size of its contrast set, regardless of its label. A run that stays there does not learn.
"""

import math
from collections.abc import Sequence
from itertools import repeat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selfcon.config import TrainConfig

# In experiments, collapsed runs stayed within 0.5 % of the value, and others left it within two epochs.
_TOLERANCE = 0.01
_NUM_EPOCHS = 3


def collapsed_loss(
    *,
    num_images: int,
    num_views: int,
    num_exits: int,
    exit_weight: float | tuple[float, ...],
    backbone_weight: float,
    backbone_contrast: str,
    temperature: float,
    base_temperature: float,
) -> float:
    """Return the contrastive loss of features that are all the same vector.

    It is sum_e w_e log(C_e) / sum_e w_e, times temperature / base_temperature, where C_e is the size of the
    contrast set of an anchor of exit e: all rows at all exits except itself, or, for anchors of the backbone
    with `backbone_contrast` "backbone", all rows at the backbone except itself. Assumes an anchor with a
    positive at every weighted exit.

    `num_images` is the size of the global batch, `num_exits` the number of exits including the backbone.
    `exit_weight` is a number for all other exits, or a tuple with one for each.
    """
    num_rows = num_images * num_views
    backbone_exits = 1 if backbone_contrast == "backbone" else num_exits
    sizes = [*repeat(num_rows * num_exits - 1, num_exits - 1), num_rows * backbone_exits - 1]
    exit_weights = exit_weight if isinstance(exit_weight, tuple) else repeat(exit_weight, num_exits - 1)
    weights = [*exit_weights, backbone_weight]
    total = math.fsum(weight * math.log(max(1, size)) for weight, size in zip(weights, sizes, strict=True))
    return total / math.fsum(weights) * temperature / base_temperature


def collapsed_loss_of(config: "TrainConfig") -> float:
    """Return `collapsed_loss` for a configuration; NaN if it has none.

    With cross-entropy there is none: its loss does not show whether features are equal.
    """
    if config.loss.objective != "contrastive":
        return math.nan
    return collapsed_loss(
        num_images=config.optim.global_batch_size,
        num_views=config.data.num_views,
        num_exits=len(config.model.exit_stages) + 1,
        exit_weight=config.loss.exit_weight,
        backbone_weight=config.loss.backbone_weight,
        backbone_contrast=config.loss.backbone_contrast,
        temperature=config.loss.temperature,
        base_temperature=config.loss.base_temperature,
    )


def is_collapsed(
    losses: Sequence[float],
    *,
    collapsed_loss: float,
    warmup_epochs: int,
    top1: float,
    untrained_top1: float,
) -> bool:
    """Return whether a run has collapsed, given the mean losses of its epochs 1, 2, ... so far.

    It has if its last three epochs, all after warm-up, have a loss within 1 % of `collapsed_loss`, and its
    accuracy `top1` is not better than that of the untrained network. False if a value is NaN.
    """
    if len(losses) < warmup_epochs + _NUM_EPOCHS:
        return False
    stays = all(abs(loss - collapsed_loss) <= _TOLERANCE * collapsed_loss for loss in losses[-_NUM_EPOCHS:])
    return stays and top1 <= untrained_top1
