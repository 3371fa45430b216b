"""Structure of backbones of all families: stem, stages and tail.

A sub-network leaves the backbone after a stage; it consists of new copies of the later stages, with the same,
fewer or more blocks, and a tail.

Forward passes are deterministic: networks published with dropout or stochastic depth are built without.

Shape letters: R rows (views of images), C channels, H height, W width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from selfcon.config import ExitDepth
from selfcon.model.normalization import NormalizationLayer

# `model.width` of published networks; other widths scale the channels in proportion.
PUBLISHED_WIDTH = 64

Layers = Mapping[str, nn.Module]


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """Options of a backbone: name, width, size of images, normalisation.

    `small_images` is true up to 64 pixels. A family with a small stem then keeps the resolution in the stem
    and ends with maps of 1/8 of the image; for larger images with 1/32.
    """

    name: str
    width: int
    in_channels: int
    small_images: bool
    normalization: NormalizationLayer


@dataclass(frozen=True, kw_only=True)
class Stage:
    """Stage of a backbone. `build(n)` returns a new one with n blocks instead of `num_blocks`.

    `num_subnetwork_blocks` is the number of blocks in a sub-network of depth `same`: that of the backbone,
    except for a stage of the authors' VGG.
    """

    name: str
    num_blocks: int
    num_subnetwork_blocks: int
    num_channels: int
    build: Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class StateDictNames:
    """Names of the published weights of a backbone.

    `origin` is the source of compatible state dicts, as text. `modules` maps names of our modules to the
    published ones if they differ; keys starting with one of `classifier` belong to layers that the backbone
    does not have.
    """

    origin: str
    modules: Mapping[str, str] = field(default_factory=dict)
    classifier: tuple[str, ...] = ()

    def published(self, key: str) -> str:
        """Return the published key of a key of the backbone's state dict."""
        for ours, theirs in self.modules.items():
            if key.startswith(f"{ours}."):
                return theirs + key.removeprefix(ours)
        return key


def pooling() -> Layers:
    """Return new layers that average maps (R, C, H, W) to features (R, C): the tail of most networks."""
    return {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}


def _as_built(layers: nn.Module) -> None:
    """For networks whose layers are initialised when they are created."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """Plan of a backbone. Stem and tail are functions that return new layers by their names in the state
    dict.

    A tail maps the output of the last stage to features (R, feature_dim). `initialise` sets the weights of
    all layers except the linear layer of an `fc` exit, which keeps torch's initialisation.
    """

    build_stem: Callable[[], Layers]
    stages: tuple[Stage, ...]
    feature_dim: int
    state_dict_names: StateDictNames
    build_tail: Callable[[], Layers] = pooling
    build_subnetwork_tail: Callable[[], Layers] = pooling
    initialise: Callable[[nn.Module], None] = _as_built

    def build_backbone(self) -> nn.Sequential:
        """Return a new backbone: images (R, C, H, W) to features (R, feature_dim)."""
        # Stages are initialised before the stem, so that a seed keeps giving the same network.
        stages = {stage.name: stage.build(stage.num_blocks) for stage in self.stages}
        return self._network(self.build_stem(), stages, self.build_tail())

    def build_subnetwork(self, exit_stage: int, exit_depth: ExitDepth) -> nn.Sequential:
        """Return a new sub-network: the output of stage `exit_stage` to features (R, feature_dim).

        Depth `fc` is a pooling and one linear layer; other depths are the later stages with `num_blocks_at`
        blocks, and a tail (the networks of Bae et al., arXiv:2106.15499; their code, commit 5e7c2c5).
        """
        if exit_depth == "fc":
            linear = nn.Linear(self.stages[exit_stage - 1].num_channels, self.feature_dim)
            return _sequence(pooling(), {"fc": linear})
        stages = {
            stage.name: stage.build(num_blocks_at(exit_depth, stage.num_subnetwork_blocks))
            for stage in self.stages[exit_stage:]
        }
        return self._network(stages, self.build_subnetwork_tail())

    def _network(self, *parts: Layers) -> nn.Sequential:
        network = _sequence(*parts)
        self.initialise(network)
        return network


def num_blocks_at(exit_depth: Literal["small", "same", "large"] | int, num_blocks: int) -> int:
    """Return the number of blocks of a sub-network in a stage where `same` has `num_blocks`.

    `small` is half of them, rounded down, at least one; `large` twice as many; an int is the number itself.
    """
    if isinstance(exit_depth, int):
        return exit_depth
    return {"small": max(1, num_blocks // 2), "same": num_blocks, "large": 2 * num_blocks}[exit_depth]


def scaled(num_channels: int, width: int, *, multiple_of: int = 1) -> int:
    """Return the channels of a layer at `width`, given the published `num_channels`.

    In proportion, rounded to the nearest multiple (ties up), at least one multiple.
    """
    multiples = (2 * num_channels * width + PUBLISHED_WIDTH * multiple_of) // (
        2 * PUBLISHED_WIDTH * multiple_of
    )
    return max(1, multiples) * multiple_of


def _sequence(*parts: Layers) -> nn.Sequential:
    """Return a Sequential of the named layers."""
    layers = nn.Sequential()
    for name, layer in (item for part in parts for item in part.items()):
        layers.add_module(name, layer)
    return layers
