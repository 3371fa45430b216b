"""VGG with BatchNorm (Simonyan & Zisserman 2015, arXiv:1409.1556), its classifier replaced by a pooling.

A block is a 3x3 convolution, a normalisation and a ReLU; a stage is some of them and a max-pooling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import nn

from selfcon.model.architecture import Architecture, BackboneOptions, Stage, StateDictNames
from selfcon.model.initialization import HE_FAN_OUT, initialise
from selfcon.model.normalization import NormalizationLayer


@dataclass(frozen=True, kw_only=True)
class VGGDesign:
    """Network of the family: blocks of its stages, and of each stage of a sub-network of depth `same`."""

    num_blocks: tuple[int, ...]
    num_subnetwork_blocks: int


# Simonyan & Zisserman 2015, table 1, columns B and D; sub-networks: Bae et al., their code, commit 5e7c2c5.
VGGS: Mapping[str, VGGDesign] = {
    "vgg13_bn": VGGDesign(num_blocks=(2, 2, 2, 2, 2), num_subnetwork_blocks=2),
    "vgg16_bn": VGGDesign(num_blocks=(2, 2, 3, 3, 3), num_subnetwork_blocks=3),
}
_CHANNELS_IN_WIDTHS = (1, 2, 4, 8, 8)
_LAYERS_OF_A_BLOCK = 3


def vgg(options: BackboneOptions) -> Architecture:
    """Return the plan of a VGG whose first stage has `width` channels (the paper's: 64), without a stem.

    Each stage halves the image, so images need at least 32 pixels.
    """
    design = VGGS[options.name]
    channels = [options.in_channels, *(options.width * times for times in _CHANNELS_IN_WIDTHS)]
    stages = (
        Stage(
            name=f"stage{i + 1}",
            num_blocks=num_blocks,
            num_subnetwork_blocks=design.num_subnetwork_blocks,
            num_channels=channels[i + 1],
            build=partial(_stage, channels[i], channels[i + 1], normalization=options.normalization),
        )
        for i, num_blocks in enumerate(design.num_blocks)
    )
    return Architecture(
        build_stem=dict,
        stages=tuple(stages),
        feature_dim=channels[-1],
        state_dict_names=StateDictNames(
            origin=f"torchvision's {options.name}, for width 64",
            modules=_names_in_torchvision(design.num_blocks),
            classifier=("classifier.",),
        ),
        initialise=partial(initialise, weight=HE_FAN_OUT),
    )


def _stage(
    in_channels: int, channels: int, num_blocks: int, *, normalization: NormalizationLayer
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i in range(num_blocks):
        convolution = nn.Conv2d(channels if i else in_channels, channels, 3, padding=1)
        layers += [convolution, normalization(channels), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.MaxPool2d(2))


def _names_in_torchvision(num_blocks: tuple[int, ...]) -> dict[str, str]:
    """Layers of all stages, numbered consecutively in torchvision; each stage ends with a pooling."""
    ours = (
        f"stage{i}.{layer}"
        for i, blocks in enumerate(num_blocks, start=1)
        for layer in range(_LAYERS_OF_A_BLOCK * blocks + 1)
    )
    return {name: f"features.{number}" for number, name in enumerate(ours)}
