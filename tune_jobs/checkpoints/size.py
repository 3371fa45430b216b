"""Upper bound of the disk space for checkpoints; without torch, so that the dry run is fast."""

import itertools
from collections.abc import Collection, Mapping
from typing import Any, NamedTuple

from tune_jobs.checkpoints.retention import NUM_KEPT_CHECKPOINTS
from tune_jobs.space import SearchSpace


class BackboneSize(NamedTuple):
    """Parameters and features of a backbone at width 64; a test compares them with the network.

    `block_share` is the maximum that a sub-network adds for each block per later stage, as a share of the
    parameters. `linear_share` is the share of parameters that grows linearly with the width: norms, biases,
    depthwise convolutions, the stem, and channels that are rounded up.
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
# Maximum that a sub-network of this depth adds to any backbone, as a share of the backbone's parameters.
SUB_NETWORKS: Mapping[str, float] = {"fc": 0.1, "small": 0.55, "same": 1.02, "large": 2.25}
PUBLISHED_WIDTH = 64
# Running statistics of BatchNorm: less than a tenth of the parameters from width 4 on.
STATISTICS_SHARE = 0.1
METADATA_BYTES = 100_000  # names, history and manifest


def max_checkpoint_bytes(space: SearchSpace) -> int:
    """Return an upper bound of the size of one checkpoint, for the largest configuration of the space.

    A checkpoint has the parameters, their momentum and BatchNorm's statistics. The bound is at most about
    twice the true size.
    """
    fields = ("backbone", "width", "exit_stages", "exit_depth", "projection_dim")
    combinations = itertools.product(*(_values(space, f"model.{field}") for field in fields))
    largest = max(max_parameters(*values) for values in combinations)
    bytes_per_value = 8 if "fp64" in _values(space, "optim.precision") else 4
    return METADATA_BYTES + round(largest * bytes_per_value * (2 + STATISTICS_SHARE))


def max_parameters(
    backbone: str, width: int, exit_stages: Collection[int], exit_depth: str | int, projection_dim: int
) -> int:
    """Return an upper bound of the number of parameters, including sub-networks and projection heads."""
    size, scale = BACKBONES[backbone], width / PUBLISHED_WIDTH
    share = size.block_share * exit_depth if isinstance(exit_depth, int) else SUB_NETWORKS[exit_depth]
    networks = size.parameters * (1 + len(exit_stages) * share) * (scale**2 + size.linear_share * scale)
    features = size.feature_dim * scale
    head = features * (features + 3) + (features + 1) * projection_dim  # Linear, BatchNorm, ReLU, Linear
    return round(networks + (len(exit_stages) + 1) * head)


def num_protected(space: SearchSpace, num_trials: int) -> int:
    """Return the number of best trials whose checkpoints are always kept.

    These are the trials to confirm. With several objectives one new trial may remove several from the Pareto
    front, so the entire front is protected.
    """
    top_k = max(1, space.confirm.top_k if space.confirm else 0)
    return num_trials if top_k > 1 and len(space.objectives) > 1 else min(top_k, num_trials)


def max_total_bytes(space: SearchSpace, *, num_trials: int, num_trainings: int, max_concurrent: int) -> int:
    """Return the maximum disk space that the checkpoints of a search take at any time.

    A running trial has its newest checkpoints and the one being written; of the finished trials the best keep
    theirs, and others up to the budget. `num_trainings` includes the repetitions of the confirmation.
    """
    each = max_checkpoint_bytes(space)
    running = min(max_concurrent, num_trainings) * (NUM_KEPT_CHECKPOINTS + 1) * each
    protected = num_protected(space, num_trials) * NUM_KEPT_CHECKPOINTS * each
    ended = protected + space.search.checkpoint_budget_bytes
    return min(running + ended, num_trainings * (NUM_KEPT_CHECKPOINTS + 1) * each)


def _values(space: SearchSpace, name: str) -> list[Any]:
    """Possible values of a field; for a range its bounds."""
    return list(dict.fromkeys(values[name] for values in space.tree.combinations([name])))
