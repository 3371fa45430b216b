"""Wide residual networks (Zagoruyko & Komodakis 2016, arXiv:1605.07146), as Bae et al. built them.

From their code, commit 5e7c2c5: every convolution has a bias, the second convolution of a block has the
stride, the shortcut is not normalised, a sub-network does not end with a normalisation, and weights are
initialised as in Glorot & Bengio (2010) with a gain of sqrt(2). Their dropout of 0.3 is omitted, because
forward passes are deterministic, and so is the momentum of 0.9 of their last normalisation, with which the
statistics would be almost those of the last batch.

Shape letters: R rows (views of images), C channels, H height, W width, X the output dimensions of a block.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from selfcon.model.architecture import (
    Architecture,
    BackboneOptions,
    Layers,
    Stage,
    StateDictNames,
    pooling,
    scaled,
)
from selfcon.model.initialization import initialise
from selfcon.model.normalization import NormalizationLayer


@dataclass(frozen=True, kw_only=True)
class WideResNetDesign:
    """Network of the family: blocks of each stage, and the factor on 16, 32, 64 channels."""

    num_blocks: int
    widening: int


# Zagoruyko & Komodakis 2016, table 1: a depth of 6 n + 4 has n blocks per stage.
WIDE_RESNETS: Mapping[str, WideResNetDesign] = {
    "wrn_16_8": WideResNetDesign(num_blocks=2, widening=8),
    "wrn_28_10": WideResNetDesign(num_blocks=4, widening=10),
}
_STEM_CHANNELS = 16
_STRIDES = (1, 2, 2)


class PreactivationBlock(nn.Module):
    """conv2(relu(bn2(conv1(relu(bn1(x)))))) + shortcut(x): (R, in, H, W) to (R, out, H / stride, W / stride).

    The shortcut is a strided 1x1 convolution if the shape changes, else x.
    """

    def __init__(
        self, in_channels: int, channels: int, *, stride: int, normalization: NormalizationLayer
    ) -> None:
        super().__init__()
        self.bn1 = normalization(in_channels)
        self.conv1 = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.bn2 = normalization(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, stride=stride, padding=1)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or in_channels != channels:
            self.shortcut = nn.Conv2d(in_channels, channels, 1, stride=stride)

    def forward(self, x_RCHW: Tensor) -> Tensor:
        branch_RX: Tensor = self.conv1(functional.relu(self.bn1(x_RCHW), inplace=True))
        branch_RX = self.conv2(functional.relu(self.bn2(branch_RX), inplace=True))
        branch_RX += self.shortcut(x_RCHW)
        return branch_RX


def wide_resnet(options: BackboneOptions) -> Architecture:
    """Return the plan of a wide ResNet; its stem is a 3x3 convolution of stride 1 for all image sizes."""
    design = WIDE_RESNETS[options.name]
    published = (_STEM_CHANNELS, *(_STEM_CHANNELS * design.widening * 2**i for i in range(len(_STRIDES))))
    channels = [scaled(num_channels, options.width) for num_channels in published]
    stages = (
        Stage(
            name=f"layer{i + 1}",
            num_blocks=design.num_blocks,
            num_subnetwork_blocks=design.num_blocks,
            num_channels=channels[i + 1],
            build=partial(
                _stage, channels[i], channels[i + 1], stride=stride, normalization=options.normalization
            ),
        )
        for i, stride in enumerate(_STRIDES)
    )
    return Architecture(
        build_stem=lambda: {"conv1": nn.Conv2d(options.in_channels, channels[0], 3, padding=1)},
        stages=tuple(stages),
        feature_dim=channels[-1],
        # Torchvision has none of these networks.
        state_dict_names=StateDictNames(
            origin=f"{options.name} of this width, with the names of this package"
        ),
        build_tail=partial(_tail, channels[-1], options.normalization),
        initialise=partial(initialise, weight=partial(nn.init.xavier_uniform_, gain=math.sqrt(2))),
    )


def _stage(
    in_channels: int, channels: int, num_blocks: int, *, stride: int, normalization: NormalizationLayer
) -> nn.Sequential:
    """The first block has the stride and the change of channels."""
    block = partial(PreactivationBlock, channels=channels, normalization=normalization)
    others = (block(channels, stride=1) for _ in range(1, num_blocks))
    return nn.Sequential(block(in_channels, stride=stride), *others)


def _tail(num_channels: int, normalization: NormalizationLayer) -> Layers:
    return {"bn1": normalization(num_channels), "relu": nn.ReLU(inplace=True), **pooling()}
