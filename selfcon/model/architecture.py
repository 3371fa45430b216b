"""What a backbone is made of, whatever its family: a stem, stages that can be built again and again, a tail.

A backbone is its stem, its stages and its tail, one after another. A sub-network, which leaves the backbone
after a stage, is a fresh copy of the later stages with fewer or more blocks, and a tail.

Nothing in a forward pass is random, so that every draw of a run belongs to its data: networks that are
published with dropout or stochastic depth are built without.

Shape letters: R rows (views of images), C channels, H height, W width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from torch import nn

from selfcon.config import ExitDepth
from selfcon.model.normalization import NormalizationLayer

# `model.width` of every network as published; other widths scale its channels in proportion.
PUBLISHED_WIDTH = 64

Layers = Mapping[str, nn.Module]


@dataclass(frozen=True, kw_only=True)
class BackboneOptions:
    """What a family is asked for: which network, how wide, for which images, normalised how.

    `small_images` is whether they have up to 64 pixels: those of a family with another stem for them keep
    their resolution at first and end in maps of 1/8 of the image, larger images in 1/32.
    """

    name: str
    width: int
    in_channels: int
    small_images: bool
    normalization: NormalizationLayer


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a backbone. `build(n)` returns it, fresh, with n blocks in place of its `num_blocks`.

    `num_subnetwork_blocks` is what a sub-network of depth `same` has here: the backbone's own number, but for
    a stage of the authors' VGG.
    """

    name: str
    num_blocks: int
    num_subnetwork_blocks: int
    num_channels: int
    build: Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class StateDictNames:
    """Under which names a backbone's weights are published, and by whom.

    `origin` says in words whose state dicts fit the backbone. `modules` maps our modules' names to theirs,
    where they differ; keys that begin with one of `classifier` belong to layers that a backbone has not.
    """

    origin: str
    modules: Mapping[str, str] = field(default_factory=dict)
    classifier: tuple[str, ...] = ()

    def published(self, key: str) -> str:
        """Return what a key of the backbone's state dict is called there."""
        for ours, theirs in self.modules.items():
            if key.startswith(f"{ours}."):
                return theirs + key.removeprefix(ours)
        return key


def pooling() -> Layers:
    """Return fresh layers that average maps (R, C, H, W) to features (R, C): the tail of most networks."""
    return {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}


def _as_built(layers: nn.Module) -> None:
    """For networks whose layers are initialised as they are made."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A backbone's plan. Stems and tails are fresh layers by their names, which the state dict has too.

    A tail goes from the last stage's maps to features (R, feature_dim). `initialise` sets the weights of all
    layers but the linear one of an `fc` exit, which keeps torch's.
    """

    build_stem: Callable[[], Layers]
    stages: tuple[Stage, ...]
    feature_dim: int
    state_dict_names: StateDictNames
    build_tail: Callable[[], Layers] = pooling
    build_subnetwork_tail: Callable[[], Layers] = pooling
    initialise: Callable[[nn.Module], None] = _as_built

    def build_backbone(self) -> nn.Sequential:
        """Return a fresh backbone: images (R, C, H, W) to features (R, feature_dim)."""
        # The stages draw their weights before the stem does: an old seed goes on being the same network.
        stages = {stage.name: stage.build(stage.num_blocks) for stage in self.stages}
        return self._network(self.build_stem(), stages, self.build_tail())

    def build_subnetwork(self, exit_stage: int, exit_depth: ExitDepth) -> nn.Sequential:
        """Return a fresh sub-network: the output of stage `exit_stage` to features (R, feature_dim).

        Depth `fc` is a pooling and one linear layer; any other is the later stages with `num_blocks_at` that
        depth, and a tail (the networks of Bae et al., arXiv:2106.15499; their code, commit 5e7c2c5).
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
    """Return the blocks that a sub-network has in a stage where `same` has `num_blocks`.

    `small` is half of them, rounded down, but one at least; `large` twice as many; an int is itself the
    number.
    """
    if isinstance(exit_depth, int):
        return exit_depth
    return {"small": max(1, num_blocks // 2), "same": num_blocks, "large": 2 * num_blocks}[exit_depth]


def scaled(num_channels: int, width: int, *, multiple_of: int = 1) -> int:
    """Return a layer's channels at `width`, of `num_channels` as published.

    In proportion, to the nearest multiple (the upper one of two), one multiple at least.
    """
    multiples = (2 * num_channels * width + PUBLISHED_WIDTH * multiple_of) // (
        2 * PUBLISHED_WIDTH * multiple_of
    )
    return max(1, multiples) * multiple_of


def _sequence(*parts: Layers) -> nn.Sequential:
    """Return the layers one after another, under their names."""
    layers = nn.Sequential()
    for name, layer in (item for part in parts for item in part.items()):
        layers.add_module(name, layer)
    return layers
