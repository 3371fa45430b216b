"""How much disk the checkpoints of a search take at most, without torch: a preview must answer at once."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tune_jobs.checkpoints.folder import NUM_KEPT_CHECKPOINTS
from tune_jobs.space import SearchSpace


class BackboneSize(NamedTuple):
    """Parameters and features of a backbone at width 64; a test counts them on the network.

    `block_share` is the most that a sub-network adds for each block per later stage, as a share of the
    parameters. `linear_share` is the share that grows with the width, not with its square: norms,
    biases, depthwise convolutions, the stem, and channels that are rounded up.
    """

    parameters: int
    feature_dim: int
    block_share: float
    linear_share: float


BACKBONES: Mapping[str, BackboneSize] = {
    "resnet18": BackboneSize(11_176_512, 512, 0.56, 0.002),
    "resnet34": BackboneSize(21_284_672, 512, 0.3, 0.002),
    "resnet50": BackboneSize(23_508_032, 2048, 0.34, 0.003),
    "resnet101": BackboneSize(42_500_160, 2048, 0.19, 0.003),
    "wrn_16_8": BackboneSize(10_960_736, 512, 0.54, 0.002),
    "wrn_28_10": BackboneSize(36_482_880, 640, 0.25, 0.002),
    "vgg13_bn": BackboneSize(9_410_880, 512, 0.58, 0.002),
    "vgg16_bn": BackboneSize(14_723_136, 512, 0.37, 0.002),
    "efficientnet_b0": BackboneSize(4_007_548, 1280, 0.62, 0.17),
    "convnext_tiny": BackboneSize(27_820_128, 768, 0.29, 0.015),
    "regnet_y_400mf": BackboneSize(3_903_144, 440, 0.18, 0.09),
}
# The most that a sub-network of this depth adds to any backbone, as a share of the backbone's parameters.
SUB_NETWORKS: Mapping[str, float] = {"fc": 0.1, "small": 0.55, "same": 1.02, "large": 2.25}
PUBLISHED_WIDTH = 64
# BatchNorm's running statistics, in addition to the parameters: less than a tenth of them from width 4 on.
STATISTICS_SHARE = 0.1
RECORDS_BYTES = 100_000  # names, history and manifest of one checkpoint


def most_checkpoint_bytes(space: SearchSpace) -> int:
    """Return an upper bound of the size of one checkpoint, for the largest configuration of the space.

    Parameters and their momentum, in the precision of training, with BatchNorm's statistics. The bound is at
    most about twice what the checkpoint holds.
    """
    fields = ("backbone", "width", "exit_stages", "exit_depth", "projection_dim")
    possible = itertools.product(*(_values(space, f"model.{field}") for field in fields))
    largest = max(most_parameters(*values) for values in possible)
    bytes_each = 8 if "fp64" in _values(space, "optim.precision") else 4
    return RECORDS_BYTES + round(largest * bytes_each * (2 + STATISTICS_SHARE))


def most_parameters(
    backbone: str, width: int, exit_stages: Collection[int], exit_depth: str | int, projection_dim: int
) -> int:
    """Return an upper bound of the parameters of a network, sub-networks and projection heads included."""
    size, scale = BACKBONES[backbone], width / PUBLISHED_WIDTH
    share = size.block_share * exit_depth if isinstance(exit_depth, int) else SUB_NETWORKS[exit_depth]
    networks = size.parameters * (1 + len(exit_stages) * share) * (scale**2 + size.linear_share * scale)
    features = size.feature_dim * scale
    head = features * (features + 3) + (features + 1) * projection_dim  # Linear, BatchNorm, ReLU, Linear
    return round(networks + (len(exit_stages) + 1) * head)


def num_protected(space: SearchSpace, num_trials: int) -> int:
    """Return of how many of the best trials the checkpoints are kept, whatever they take.

    Those that are confirmed. With several objectives one new trial may take several off the Pareto front, so
    that others move up by more than one: then the whole front is protected.
    """
    top_k = max(1, space.confirm.top_k if space.confirm else 0)
    return num_trials if top_k > 1 and len(space.objectives) > 1 else min(top_k, num_trials)


def most_bytes(space: SearchSpace, *, num_trials: int, num_trainings: int, at_once: int) -> int:
    """Return how much the checkpoints of a search take at most at any moment.

    A running trial keeps its newest checkpoints while it writes another; of those that ended the best keep
    theirs, and others up to the budget. `num_trainings` counts the seeds of the confirmation too.
    """
    each = most_checkpoint_bytes(space)
    running = min(at_once, num_trainings) * (NUM_KEPT_CHECKPOINTS + 1) * each
    protected = num_protected(space, num_trials) * NUM_KEPT_CHECKPOINTS * each
    ended = protected + space.search.checkpoint_budget_bytes
    return min(running + ended, num_trainings * (NUM_KEPT_CHECKPOINTS + 1) * each)


def _values(space: SearchSpace, name: str) -> list[Any]:
    """What a field can be; of a range its ends."""
    return list(dict.fromkeys(values[name] for values in space.tree.combinations([name])))
