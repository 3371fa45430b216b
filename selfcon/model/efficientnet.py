"""EfficientNet (Tan & Le 2019, arXiv:1905.11946), of torchvision's blocks without stochastic depth."""

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
    pooling,
    scaled,
)
from selfcon.model.initialization import HE_FAN_OUT, initialise


@dataclass(frozen=True)
class MBConvDesign:
    """Design of a stage; its first block has the stride, which may differ for small images."""

    expansion: int
    kernel_size: int
    stride: int
    small_image_stride: int
    num_channels: int
    num_blocks: int


# Tan & Le 2019, table 1; strides for small images: Bae et al., their code, commit 5e7c2c5.
EFFICIENTNETS: Mapping[str, tuple[MBConvDesign, ...]] = {
    "efficientnet_b0": (
        MBConvDesign(1, 3, 1, 1, 16, 1),
        MBConvDesign(6, 3, 2, 1, 24, 2),
        MBConvDesign(6, 5, 2, 2, 40, 2),
        MBConvDesign(6, 3, 2, 2, 80, 3),
        MBConvDesign(6, 5, 1, 1, 112, 3),
        MBConvDesign(6, 5, 2, 2, 192, 4),
        MBConvDesign(6, 3, 1, 1, 320, 1),
    ),
}
_STEM_CHANNELS = 32
# The paper's 1280 of 320.
_TAIL_EXPANSION = 4
# Rounding of channels as in the paper and in torchvision's blocks.
_MULTIPLE_OF = 8


def efficientnet(options: BackboneOptions) -> Architecture:
    """Return the plan of an EfficientNet; at other widths than 64 its channels are multiples of 8.

    The stem is a 3x3 convolution of stride 2, of stride 1 for small images. The tail is a 1x1 convolution and
    a pooling; a sub-network ends with a copy of it.
    """
    designs = EFFICIENTNETS[options.name]
    published = (_STEM_CHANNELS, *(design.num_channels for design in designs))
    channels = [scaled(num, options.width, multiple_of=_MULTIPLE_OF) for num in published]
    stages = tuple(
        Stage(
            name=f"stage{i + 1}",
            num_blocks=design.num_blocks,
            num_subnetwork_blocks=design.num_blocks,
            num_channels=channels[i + 1],
            build=partial(_stage, channels[i], channels[i + 1], design=design, options=options),
        )
        for i, design in enumerate(designs)
    )
    layers = ("stem", *(stage.name for stage in stages), "head")
    build_tail = partial(_tail, channels[-1], options)
    return Architecture(
        build_stem=partial(_stem, channels[0], options),
        stages=stages,
        feature_dim=_TAIL_EXPANSION * channels[-1],
        state_dict_names=StateDictNames(
            origin=f"torchvision's {options.name}, for width 64",
            modules={name: f"features.{i}" for i, name in enumerate(layers)},
            classifier=("classifier.",),
        ),
        build_tail=build_tail,
        build_subnetwork_tail=build_tail,
        initialise=partial(initialise, weight=HE_FAN_OUT),
    )


def _stem(channels: int, options: BackboneOptions) -> Layers:
    stride = 1 if options.small_images else 2
    return {"stem": _convolution(options.in_channels, channels, options, kernel_size=3, stride=stride)}


def _stage(
    in_channels: int, channels: int, num_blocks: int, *, design: MBConvDesign, options: BackboneOptions
) -> nn.Sequential:
    # Importing torchvision takes as long as torch; most runs do not need it.
    from torchvision.models.efficientnet import MBConv, MBConvConfig

    first_stride = design.small_image_stride if options.small_images else design.stride
    blocks = []
    for i in range(num_blocks):
        block = MBConvConfig(
            expand_ratio=design.expansion,
            kernel=design.kernel_size,
            stride=1 if i else first_stride,
            input_channels=channels if i else in_channels,
            out_channels=channels,
            num_layers=1,
        )
        blocks.append(MBConv(block, stochastic_depth_prob=0.0, norm_layer=options.normalization))
    return nn.Sequential(*blocks)


def _tail(in_channels: int, options: BackboneOptions) -> Layers:
    head = _convolution(in_channels, _TAIL_EXPANSION * in_channels, options, kernel_size=1, stride=1)
    return {"head": head, **pooling()}


def _convolution(
    in_channels: int, out_channels: int, options: BackboneOptions, *, kernel_size: int, stride: int
) -> nn.Module:
    from torchvision.ops import Conv2dNormActivation

    layer: nn.Module = Conv2dNormActivation(
        in_channels,
        out_channels,
        kernel_size=kernel_size,
        stride=stride,
        norm_layer=options.normalization,
        activation_layer=nn.SiLU,
    )
    return layer
