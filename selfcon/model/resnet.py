"""Residual networks (He et al. 2016, arXiv:1512.03385), with torchvision's names in their state dicts.

Shape letters: R rows (views of images), C channels, H height, W width, X the output dimensions of a block.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from selfcon.model.architecture import Architecture, BackboneOptions, Stage, StateDictNames
from selfcon.model.initialization import HE_FAN_OUT
from selfcon.model.normalization import NormalizationLayer


@dataclass(frozen=True, kw_only=True)
class BlockDesign:
    """Residual branch: its convolutions, and the ratio of output to inner channels."""

    kernel_sizes: tuple[int, ...]
    expansion: int


@dataclass(frozen=True, kw_only=True)
class ResNetDesign:
    """One network of the family; the inner channels of its blocks double from stage to stage."""

    block: BlockDesign
    num_blocks: tuple[int, ...]


BASIC = BlockDesign(kernel_sizes=(3, 3), expansion=1)
BOTTLENECK = BlockDesign(kernel_sizes=(1, 3, 1), expansion=4)

# He et al. 2016, table 1.
RESNETS: Mapping[str, ResNetDesign] = {
    "resnet18": ResNetDesign(block=BASIC, num_blocks=(2, 2, 2, 2)),
    "resnet34": ResNetDesign(block=BASIC, num_blocks=(3, 4, 6, 3)),
    "resnet50": ResNetDesign(block=BOTTLENECK, num_blocks=(3, 4, 6, 3)),
    "resnet101": ResNetDesign(block=BOTTLENECK, num_blocks=(3, 4, 23, 3)),
}


class ResidualBlock(nn.Module):
    """relu(branch(x) + shortcut(x)): (R, in, H, W) to (R, channels x expansion, H / stride, W / stride).

    The first 3x3 convolution of the branch has the stride. The shortcut is a strided 1x1 convolution if the
    shape changes, else x.
    """

    def __init__(
        self,
        in_channels: int,
        channels: int,
        *,
        design: BlockDesign,
        stride: int,
        normalization: NormalizationLayer,
    ) -> None:
        super().__init__()
        kernel_sizes = design.kernel_sizes
        self.num_convolutions = len(kernel_sizes)
        strides = [stride if i == kernel_sizes.index(3) else 1 for i in range(len(kernel_sizes))]
        widths = [in_channels, *[channels] * (len(kernel_sizes) - 1), channels * design.expansion]
        for i, kernel_size in enumerate(kernel_sizes):
            convolution = _convolution(widths[i], widths[i + 1], kernel_size, stride=strides[i])
            self.add_module(f"conv{i + 1}", convolution)
            self.add_module(f"bn{i + 1}", normalization(widths[i + 1]))
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or widths[0] != widths[-1]:
            shortcut = _convolution(widths[0], widths[-1], 1, stride=stride)
            self.downsample = nn.Sequential(shortcut, normalization(widths[-1]))

    def forward(self, x_RCHW: Tensor) -> Tensor:
        branch_RX = self.get_submodule("bn1")(self.get_submodule("conv1")(x_RCHW))
        for i in range(2, self.num_convolutions + 1):
            active_RX = functional.relu(branch_RX, inplace=True)
            branch_RX = self.get_submodule(f"bn{i}")(self.get_submodule(f"conv{i}")(active_RX))
        branch_RX += self.downsample(x_RCHW)
        return functional.relu(branch_RX, inplace=True)


def resnet(options: BackboneOptions) -> Architecture:
    """Return the plan of a ResNet whose first stage has `width` inner channels (the paper's: 64).

    The stem is a 7x7 convolution and a max-pooling, both of stride 2; for small images a 3x3 convolution of
    stride 1, to keep their resolution.
    """
    design = RESNETS[options.name]
    stages: list[Stage] = []
    num_channels = options.width
    for i, num_blocks in enumerate(design.num_blocks):
        build = partial(
            _stage,
            in_channels=num_channels,
            channels=options.width * 2**i,
            design=design.block,
            stride=1 if i == 0 else 2,
            normalization=options.normalization,
        )
        num_channels = options.width * 2**i * design.block.expansion
        stages.append(
            Stage(
                name=f"layer{i + 1}",
                num_blocks=num_blocks,
                num_subnetwork_blocks=num_blocks,
                num_channels=num_channels,
                build=build,
            )
        )
    return Architecture(
        build_stem=partial(_stem, options),
        stages=tuple(stages),
        feature_dim=num_channels,
        state_dict_names=StateDictNames(
            origin=f"torchvision's {options.name}, for width 64 and images above 64 pixels",
            classifier=("fc.",),
        ),
    )


def _stem(options: BackboneOptions) -> dict[str, nn.Module]:
    kernel_size, stride = (3, 1) if options.small_images else (7, 2)
    layers = {
        "conv1": _convolution(options.in_channels, options.width, kernel_size, stride=stride),
        "bn1": options.normalization(options.width),
        "relu": nn.ReLU(inplace=True),
    }
    if options.small_images:
        return layers
    return {**layers, "maxpool": nn.MaxPool2d(3, stride=2, padding=1)}


def _stage(
    num_blocks: int,
    *,
    in_channels: int,
    channels: int,
    design: BlockDesign,
    stride: int,
    normalization: NormalizationLayer,
) -> nn.Sequential:
    """The first block has the stride and the change of channels."""
    block = partial(ResidualBlock, channels=channels, design=design, normalization=normalization)
    others = (block(channels * design.expansion, stride=1) for _ in range(1, num_blocks))
    return nn.Sequential(block(in_channels, stride=stride), *others)


def _convolution(in_channels: int, out_channels: int, kernel_size: int, *, stride: int) -> nn.Conv2d:
    """Without a bias, as a normalisation follows."""
    layer = nn.Conv2d(
        in_channels, out_channels, kernel_size, stride=stride, padding=kernel_size // 2, bias=False
    )
    HE_FAN_OUT(layer.weight)
    return layer
