"""Training objective of a configuration: the number of classes of the heads, and the loss.

Shape letters: R rows of this rank, E exits with the backbone last, X dimensions of a projection or classes.
"""

from torch import Tensor

from selfcon.config import TrainConfig
from selfcon.losses.contrastive import selfcon_loss
from selfcon.losses.cross_entropy import exit_cross_entropy


def num_classes_of_heads(config: TrainConfig, *, num_classes: int) -> int | None:
    """Return the number of classes of the encoder's heads, or None for projections."""
    return num_classes if config.loss.objective == "cross_entropy" else None


def training_loss(outputs_REX: Tensor, labels_B: Tensor, *, config: TrainConfig) -> Tensor:
    """Return this rank's share of the loss times the world size, a scalar to minimise.

    With `loss.objective` "contrastive" the outputs are projections and it is `selfcon_loss`; with
    "cross_entropy" they are logits and it is `exit_cross_entropy`. Both raise `ConfigError` for outputs of a
    wrong shape.
    """
    num_views, loss = config.data.num_views, config.loss
    if loss.objective == "cross_entropy":
        return exit_cross_entropy(
            outputs_REX,
            labels_B,
            num_views=num_views,
            exit_weights=loss.exit_weight,
            backbone_weight=loss.backbone_weight,
        )
    return selfcon_loss(
        outputs_REX,
        labels_B if loss.use_labels else None,
        num_views=num_views,
        temperature=loss.temperature,
        base_temperature=loss.base_temperature,
        exit_weights=loss.exit_weight,
        backbone_weight=loss.backbone_weight,
        backbone_contrast=loss.backbone_contrast,
    )
