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
    """Return a fresh head: features (R, feature_dim) to projections (R, projection_dim), not normalised yet.

    Linear, ReLU, Linear is the head of Bae et al. (their code, commit 5e7c2c5), `none`. `batch` puts a
    BatchNorm in front of the ReLU, `input` one in front of the head. Either removes the component that all
    features share, which else keeps the contrastive loss at the value of features that are all alike for as
    long as one cares to train.
    """
    layers = {
        "hidden": nn.Linear(feature_dim, feature_dim),
        "bn": BatchNorm(feature_dim),
        "relu": nn.ReLU(inplace=True),
        "output": nn.Linear(feature_dim, projection_dim),
    }
    return nn.Sequential(OrderedDict((name, layers[name]) for name in _LAYERS[normalization]))
