"""What a backbone is made of, whatever its family: a stem, and stages that can be built again and again.

A backbone is its stem, its stages and a pooling, one after another. A sub-network, which leaves the backbone
after a stage, is a fresh copy of the later stages with fewer or more blocks, and a pooling.

Shape letters: R rows (views of images), C channels, H height, W width.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from torch import nn

from selfcon.config import ExitDepth


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One stage of a backbone. `build(n)` returns it, fresh, with n blocks in place of its `num_blocks`."""

    name: str
    num_blocks: int
    num_channels: int
    build: Callable[[int], nn.Module]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A backbone's plan. `build_stem()` returns fresh layers by their names, which the state dict has too."""

    build_stem: Callable[[], Mapping[str, nn.Module]]
    stages: tuple[Stage, ...]

    @property
    def feature_dim(self) -> int:
        """The size of every exit's features: the channels of the last stage."""
        return self.stages[-1].num_channels

    def build_backbone(self) -> nn.Sequential:
        """Return a fresh backbone: images (R, C, H, W) to features (R, feature_dim)."""
        stages = {stage.name: stage.build(stage.num_blocks) for stage in self.stages}
        return _sequence(self.build_stem(), stages, _pooling())

    def build_subnetwork(self, exit_stage: int, exit_depth: ExitDepth) -> nn.Sequential:
        """Return a fresh sub-network: the output of stage `exit_stage` to features (R, feature_dim).

        Depth `fc` is a pooling and one linear layer; any other is the later stages with `num_blocks_at` that
        depth, and a pooling (the networks of Bae et al., arXiv:2106.15499; their code, commit 5e7c2c5).
        """
        if exit_depth == "fc":
            linear = nn.Linear(self.stages[exit_stage - 1].num_channels, self.feature_dim)
            return _sequence(_pooling(), {"fc": linear})
        later = self.stages[exit_stage:]
        stages = {stage.name: stage.build(num_blocks_at(exit_depth, stage.num_blocks)) for stage in later}
        return _sequence(stages, _pooling())


def num_blocks_at(exit_depth: Literal["small", "same", "large"] | int, num_blocks: int) -> int:
    """Return the blocks that a sub-network has in a stage where the backbone has `num_blocks`.

    `small` is half of them, rounded down, but one at least; `same` as many; `large` twice as many; an int is
    itself the number.
    """
    if isinstance(exit_depth, int):
        return exit_depth
    return {"small": max(1, num_blocks // 2), "same": num_blocks, "large": 2 * num_blocks}[exit_depth]


def _pooling() -> dict[str, nn.Module]:
    return {"avgpool": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten()}


def _sequence(*parts: Mapping[str, nn.Module]) -> nn.Sequential:
    """Return the layers one after another, under their names."""
    layers = nn.Sequential()
    for name, layer in (item for part in parts for item in part.items()):
        layers.add_module(name, layer)
    return layers
