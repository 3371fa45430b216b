"""ConvNeXt (Liu et al. 2022, arXiv:2201.03545), of torchvision's blocks without stochastic depth.

It uses LayerNorm and has no BatchNorm that could be replaced; `selfcon.rules` allows only the default
`model.normalization`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from selfcon.model.architecture import (
    Architecture,
    BackboneOptions,
    Layers,
    Stage,
    StateDictNames,
    scaled,
)
from selfcon.model.initialization import initialise


@dataclass(frozen=True, kw_only=True)
class ConvNeXtDesign:
    """One network of the family."""

    num_blocks: tuple[int, ...]
    num_channels: tuple[int, ...]


# Liu et al. 2022, section 3; the other constants are from their appendix A and torchvision.
CONVNEXTS: Mapping[str, ConvNeXtDesign] = {
    "convnext_tiny": ConvNeXtDesign(num_blocks=(3, 3, 9, 3), num_channels=(96, 192, 384, 768)),
}
_LAYER_SCALE = 1e-6
_EPSILON = 1e-6
_STD_OF_WEIGHTS = 0.02


def convnext(options: BackboneOptions) -> Architecture:
    """Return the plan of a ConvNeXt whose channels are in proportion to the width.

    The stem is a 4x4 convolution of stride 4; for small images a 3x3 one of stride 1. Each later stage starts
    with a 2x2 convolution of stride 2. The tail is a pooling and a normalisation; a sub-network ends with a
    copy of it.
    """
    design = CONVNEXTS[options.name]
    channels = [scaled(num_channels, options.width) for num_channels in design.num_channels]
    stages = tuple(
        Stage(
            name=f"stage{i + 1}",
            num_blocks=num_blocks,
            num_subnetwork_blocks=num_blocks,
            num_channels=channels[i],
            build=partial(_stage, channels[i - 1] if i else None, channels[i]),
        )
        for i, num_blocks in enumerate(design.num_blocks)
    )
    layers = [f"{stage.name}.{part}" for stage in stages for part in ("downsample", "blocks")]
    build_tail = partial(_tail, channels[-1])
    return Architecture(
        build_stem=partial(_stem, channels[0], options),
        stages=stages,
        feature_dim=channels[-1],
        state_dict_names=StateDictNames(
            origin=f"torchvision's {options.name}, for width 64 and images above 64 pixels",
            # The stem of the first stage takes the place of the downsampling of the others.
            modules={
                **{name: f"features.{i}" for i, name in enumerate(["stem", *layers[1:]])},
                "norm": "classifier.0",
            },
            classifier=("classifier.2.",),
        ),
        build_tail=build_tail,
        build_subnetwork_tail=build_tail,
        initialise=partial(initialise, weight=partial(nn.init.trunc_normal_, std=_STD_OF_WEIGHTS)),
    )


def _stem(channels: int, options: BackboneOptions) -> Layers:
    kernel_size, stride, padding = (3, 1, 1) if options.small_images else (4, 4, 0)
    convolution = nn.Conv2d(options.in_channels, channels, kernel_size, stride=stride, padding=padding)
    return {"stem": nn.Sequential(convolution, _normalization(channels))}


def _stage(in_channels: int | None, channels: int, num_blocks: int) -> nn.Sequential:
    """Without `in_channels` it is the first stage, which follows the stem."""
    # Importing torchvision takes as long as torch; most runs do not need it.
    from torchvision.models.convnext import CNBlock

    layers = nn.Sequential()
    if in_channels is not None:
        halving = nn.Conv2d(in_channels, channels, 2, stride=2)
        layers.add_module("downsample", nn.Sequential(_normalization(in_channels), halving))
    blocks = (CNBlock(channels, _LAYER_SCALE, stochastic_depth_prob=0.0) for _ in range(num_blocks))
    layers.add_module("blocks", nn.Sequential(*blocks))
    return layers


def _tail(channels: int) -> Layers:
    return {"avgpool": nn.AdaptiveAvgPool2d(1), "norm": _normalization(channels), "flatten": nn.Flatten()}


def _normalization(channels: int) -> nn.Module:
    from torchvision.models.convnext import LayerNorm2d

    layer: nn.Module = LayerNorm2d(channels, eps=_EPSILON)
    return layer
