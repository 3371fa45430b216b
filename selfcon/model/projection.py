"""The projection head between an exit's features and the loss."""

from collections import OrderedDict
from typing import Literal

from torch import nn

from selfcon.model.normalization import BatchNorm


def build_projection_head(
    feature_dim: int, projection_dim: int, *, normalization: Literal["batch", "none"]
) -> nn.Sequential:
    """Return a fresh head: features (R, feature_dim) to projections (R, projection_dim), not normalised yet.

    Linear, ReLU, Linear is the head of Bae et al. (their code, commit 5e7c2c5). `batch` puts a BatchNorm in
    front of the ReLU. It removes the component that all features share, which else keeps the contrastive
    loss at the value of features that are all alike for as long as one cares to train.
    """
    layers: OrderedDict[str, nn.Module] = OrderedDict(hidden=nn.Linear(feature_dim, feature_dim))
    if normalization == "batch":
        layers["bn"] = BatchNorm(feature_dim)
    layers["relu"] = nn.ReLU(inplace=True)
    layers["output"] = nn.Linear(feature_dim, projection_dim)
    return nn.Sequential(layers)
