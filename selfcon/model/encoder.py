"""Multi-exit encoder: a backbone, its sub-networks, and a head for each exit.

Shape letters: R rows (views of images), C channels, H height, W width, E exits with the backbone last,
X dimensions of a projection or classes.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from selfcon.config import ExitDepth, ModelConfig, ProjectionNormalization, check_field, check_rules
from selfcon.model.architecture import Architecture, BackboneOptions
from selfcon.model.backbones import BACKBONES
from selfcon.model.normalization import normalization_layer
from selfcon.model.projection import build_projection_head

# CIFAR and Tiny-ImageNet; for larger images the stem reduces the resolution by 4.
_LARGEST_SMALL_IMAGE = 64


class SelfConEncoder(nn.Module):
    """Backbone with several exits.

    `exits` are the sub-networks and `projection_heads` the heads, by the stage of the exit, the head of the
    backbone last. With `num_classes` there are `classifiers`, one linear layer each, instead of projection
    heads. `exit_stages` are the stages of the exits, from 1; `feature_dim` is the size of the features of
    every exit. `state_dict_names` maps the names in the state dict of `backbone` to the published ones.
    """

    def __init__(
        self,
        architecture: Architecture,
        *,
        in_channels: int,
        exit_stages: tuple[int, ...],
        exit_depth: ExitDepth,
        projection_dim: int,
        projection_normalization: ProjectionNormalization,
        num_classes: int | None,
    ) -> None:
        super().__init__()
        self.in_channels = in_channels
        self.exit_stages = exit_stages
        self.feature_dim = architecture.feature_dim
        self.state_dict_names = architecture.state_dict_names
        self.backbone = architecture.build_backbone()
        self.exits = nn.ModuleDict()
        self.projection_heads = nn.ModuleDict()
        self.classifiers = nn.ModuleDict()
        for stage in exit_stages:
            name = architecture.stages[stage - 1].name
            self.exits[name] = architecture.build_subnetwork(stage, exit_depth)
        for name in (*self.exits, "backbone"):
            if num_classes is not None:
                self.classifiers[name] = nn.Linear(self.feature_dim, num_classes)
                continue
            self.projection_heads[name] = build_projection_head(
                self.feature_dim, projection_dim, normalization=projection_normalization
            )

    def forward(self, images_RCHW: Tensor) -> Tensor:
        """Return the L2-normalised projections, or the logits of a network with classifiers, (R, E, X).

        In float32, or float64 for a float64 network.
        """
        heads = self.classifiers or self.projection_heads
        outputs = zip(heads.values(), self.features(images_RCHW), strict=True)
        outputs_REX = torch.stack([head(x_RD) for head, x_RD in outputs], dim=1)
        # With autocast they may be bfloat16, whose unit vectors are off by 0.4 %.
        outputs_REX = outputs_REX.to(torch.promote_types(outputs_REX.dtype, torch.float32))
        return outputs_REX if self.classifiers else functional.normalize(outputs_REX, dim=2)

    def features(self, images_RCHW: Tensor) -> list[Tensor]:
        """Return the features (R, feature_dim) of every exit, the backbone's last."""
        features = []
        x = images_RCHW
        for name, layer in self.backbone.named_children():
            x = layer(x)
            if name in self.exits:
                features.append(self.exits[name](x))
        return [*features, x]


def build_encoder(
    model_config: ModelConfig, *, image_size: int, in_channels: int = 3, num_classes: int | None = None
) -> SelfConEncoder:
    """Build an encoder with random weights.

    The stem depends on the image size: up to 64 pixels it keeps the resolution, above it reduces it by 4
    (details depend on the family).

    Args:
        model_config: The `model` section of a TrainConfig. `weights` is not loaded; see `load_weights`.
        image_size: Side of the square images in pixels; other sizes can be encoded too.
        in_channels: Number of channels of the images.
        num_classes: If given, the heads are linear classifiers instead of projection heads.

    Returns:
        The encoder, initialised from torch's global random generator, in training mode.

    Raises:
        ConfigError: A value is invalid, or an exit does not fit the backbone.

    Example:
        >>> import torch
        >>> from selfcon import TrainConfig
        >>> config = TrainConfig.from_flat({"model.width": 4, "model.exit_stages": [1, 2]})
        >>> encoder = build_encoder(config.model, image_size=32)
        >>> encoder(torch.rand(2, 3, 32, 32)).shape  # rows, exits with the backbone last, projection
        torch.Size([2, 3, 128])
        >>> [tuple(features.shape) for features in encoder.features(torch.rand(2, 3, 32, 32))]
        [(2, 32), (2, 32), (2, 32)]
    """
    fields = {f"model.{name}": value for name, value in model_config}
    for name, value in fields.items():
        check_field(name, value)
    check_rules({**fields, "data.image_size": image_size})
    options = BackboneOptions(
        name=model_config.backbone,
        width=model_config.width,
        in_channels=in_channels,
        small_images=image_size <= _LARGEST_SMALL_IMAGE,
        normalization=normalization_layer(model_config.normalization),
    )
    architecture = BACKBONES[options.name](options)
    return SelfConEncoder(
        architecture,
        in_channels=in_channels,
        exit_stages=model_config.exit_stages,
        exit_depth=model_config.exit_depth,
        projection_dim=model_config.projection_dim,
        projection_normalization=model_config.projection_normalization,
        num_classes=num_classes,
    )
