"""The projection head between an exit's features and the loss."""

from collections import OrderedDict
from collections.abc import Mapping

from torch import nn

from selfcon.config import ProjectionNormalization
from selfcon.model.normalization import BatchNorm

_LAYERS: Mapping[ProjectionNormalization, tuple[str, ...]] = {
    "none": ("hidden", "relu", "output"),
    "batch": ("hidden", "bn", "relu", "output"),
    "input": ("bn", "hidden", "relu", "output"),
}


def build_projection_head(
    feature_dim: int, projection_dim: int, *, normalization: ProjectionNormalization
) -> nn.Sequential:
    """Return a new head: features (R, feature_dim) to projections (R, projection_dim), not yet normalised.

    `none` is Linear, ReLU, Linear, the head of Bae et al. (their code, commit 5e7c2c5). `batch` adds a
    BatchNorm before the ReLU, `input` one before the head. Both remove the common component of all features,
    which otherwise can keep the contrastive loss at the value of collapsed features.
    """
    layers = {
        "hidden": nn.Linear(feature_dim, feature_dim),
        "bn": BatchNorm(feature_dim),
        "relu": nn.ReLU(inplace=True),
        "output": nn.Linear(feature_dim, projection_dim),
    }
    return nn.Sequential(OrderedDict((name, layers[name]) for name in _LAYERS[normalization]))
