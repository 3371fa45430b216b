"""RegNet (Radosavovic et al. 2020, arXiv:2003.13678), of torchvision's stages."""

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
from selfcon.model.initialization import HE_FAN_OUT, initialise


@dataclass(frozen=True, kw_only=True)
class RegNetDesign:
    """One network of the family; inner convolutions have groups of `group_width` channels.

    `squeeze_ratio` is the ratio of the squeeze-and-excitation channels to the input channels of a block.
    """

    num_blocks: tuple[int, ...]
    num_channels: tuple[int, ...]
    group_width: int
    squeeze_ratio: float


# Radosavovic et al. 2020: 16 blocks, w_0 48, w_a 27.89, w_m 2.09, quantised as in their section 3.3.
REGNETS: Mapping[str, RegNetDesign] = {
    "regnet_y_400mf": RegNetDesign(
        num_blocks=(1, 3, 6, 6), num_channels=(48, 104, 208, 440), group_width=8, squeeze_ratio=0.25
    ),
}
_STEM_CHANNELS = 32


def regnet(options: BackboneOptions) -> Architecture:
    """Return the plan of a RegNet; at other widths than 64 its channels are multiples of the group width.

    The stem is a 3x3 convolution of stride 2, and every stage has a stride of 2; for small images the stem
    and the first stage have a stride of 1.
    """
    design = REGNETS[options.name]
    published = (_STEM_CHANNELS, *design.num_channels)
    channels = [scaled(num, options.width, multiple_of=design.group_width) for num in published]
    stages = tuple(
        Stage(
            name=f"stage{i + 1}",
            num_blocks=num_blocks,
            num_subnetwork_blocks=num_blocks,
            num_channels=channels[i + 1],
            build=partial(
                _stage,
                channels[i],
                channels[i + 1],
                stage=i + 1,
                stride=1 if i == 0 and options.small_images else 2,
                design=design,
                options=options,
            ),
        )
        for i, num_blocks in enumerate(design.num_blocks)
    )
    return Architecture(
        build_stem=partial(_stem, channels[0], options),
        stages=stages,
        feature_dim=channels[-1],
        state_dict_names=StateDictNames(
            origin=f"torchvision's {options.name}, for width 64",
            modules={stage.name: f"trunk_output.block{i + 1}" for i, stage in enumerate(stages)},
            classifier=("fc.",),
        ),
        # Squeeze-and-excitation has biases with torch's default initialisation, as in torchvision.
        initialise=partial(initialise, weight=HE_FAN_OUT, zero_biases=False),
    )


def _stem(channels: int, options: BackboneOptions) -> Layers:
    # Importing torchvision takes as long as torch; most runs do not need it.
    from torchvision.ops import Conv2dNormActivation

    stem: nn.Module = Conv2dNormActivation(
        options.in_channels,
        channels,
        kernel_size=3,
        stride=1 if options.small_images else 2,
        norm_layer=options.normalization,
        activation_layer=nn.ReLU,
    )
    return {"stem": stem}


def _stage(
    in_channels: int,
    channels: int,
    num_blocks: int,
    *,
    stage: int,
    stride: int,
    design: RegNetDesign,
    options: BackboneOptions,
) -> nn.Module:
    from torchvision.models.regnet import AnyStage, ResBottleneckBlock

    layers: nn.Module = AnyStage(
        in_channels,
        channels,
        stride,
        num_blocks,
        ResBottleneckBlock,
        options.normalization,
        nn.ReLU,
        group_width=design.group_width,
        bottleneck_multiplier=1.0,
        se_ratio=design.squeeze_ratio,
        stage_index=stage,
    )
    return layers
