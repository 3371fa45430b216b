"""The multi-exit encoder: a backbone, sub-networks that leave it, and a projection head for each exit.

Shape letters: R rows (views of images), C channels, H height, W width, E exits with the backbone last,
D dimensions of a projection.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfcon.config import ExitDepth, ModelConfig, check_field, check_rules
from selfcon.model.architecture import Architecture
from selfcon.model.normalization import normalization_layer
from selfcon.model.projection import build_projection_head
from selfcon.model.resnet import resnet

# CIFAR and Tiny-ImageNet; larger images can afford a stem that halves them twice.
_LARGEST_SMALL_IMAGE = 64


class SelfConEncoder(nn.Module):
    """A backbone with several exits.

    `backbone` has its family's names in the state dict; `exits` holds the sub-networks and `projection_heads`
    the heads, each under the name of the stage after which it leaves, the backbone's head last. `exit_stages`
    are those stages' numbers, from 1; `feature_dim` is the size of every exit's features.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        in_channels: int,
        exit_stages: tuple[int, ...],
        exit_depth: ExitDepth,
        projection_dim: int,
        projection_normalization: Literal["batch", "none"],
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.exit_stages = exit_stages
        self.feature_dim = architecture.feature_dim
        self.backbone = architecture.build_backbone()
        self.exits = nn.ModuleDict()
        self.projection_heads = nn.ModuleDict()
        for stage in exit_stages:
            name = architecture.stages[stage - 1].name
            self.exits[name] = architecture.build_subnetwork(stage, exit_depth)
        for name in (*self.exits, "backbone"):
            self.projection_heads[name] = build_projection_head(
                self.feature_dim, projection_dim, normalization=projection_normalization
            )

    def forward(self, images_RCHW: Tensor) -> Tensor:
        """Return the L2-normalised projections (R, E, D): float32, or float64 of a float64 network."""
        features = self.features(images_RCHW)
        heads = self.projection_heads.values()
        z_RED = torch.stack([head(x_RD) for head, x_RD in zip(heads, features, strict=True)], dim=1)
        # Autocast may have made them bfloat16, whose unit vectors are 0.4 % off.
        return functional.normalize(z_RED.to(torch.promote_types(z_RED.dtype, torch.float32)), dim=2)

    def features(self, images_RCHW: Tensor) -> list[Tensor]:
        """Return the features (R, feature_dim) of every exit, the backbone's last."""
        features = []
        x = images_RCHW
        for name, layer in self.backbone.named_children():
            x = layer(x)
            if name in self.exits:
                features.append(self.exits[name](x))
        return [*features, x]


def build_encoder(model_config: ModelConfig, *, image_size: int, in_channels: int = 3) -> SelfConEncoder:
    """Return a fresh encoder for square images of `image_size` pixels (larger or smaller ones work too).

    The stem is chosen by the size: up to 64 pixels it keeps the resolution, else it quarters it. Weights come
    from torch's global generator. Raises `ConfigError` for a model that cannot be built.
    """
    fields = {f"model.{name}": value for name, value in model_config}
    for name, value in fields.items():
        check_field(name, value)
    check_rules(fields)
    architecture = resnet(
        model_config.backbone,
        width=model_config.width,
        in_channels=in_channels,
        small_images=image_size <= _LARGEST_SMALL_IMAGE,
        normalization=normalization_layer(model_config.normalization),
    )
    return SelfConEncoder(
        architecture,
        in_channels=in_channels,
        exit_stages=model_config.exit_stages,
        exit_depth=model_config.exit_depth,
        projection_dim=model_config.projection_dim,
        projection_normalization=model_config.projection_normalization,
    )
