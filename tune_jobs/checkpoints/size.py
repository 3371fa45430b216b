"""How much disk the checkpoints of a search take at most, from arithmetic alone.

The parameters of a network are counted as its layers would be built, so that a preview needs no torch.
"""

import itertools
from collections.abc import Collection
from typing import Any

from tune_jobs.checkpoints.folder import NUM_KEPT_CHECKPOINTS
from tune_jobs.checkpoints.network_sizes import NETWORKS, most_parameters
from tune_jobs.space import SearchSpace

# Blocks of each stage, and whether a block is a bottleneck (He et al. 2015, table 1).
RESNETS: dict[str, tuple[tuple[int, int, int, int], bool]] = {
    "resnet18": ((2, 2, 2, 2), False),
    "resnet34": ((3, 4, 6, 3), False),
    "resnet50": ((3, 4, 6, 3), True),
    "resnet101": ((3, 4, 23, 3), True),
}
_BOTTLENECK_EXPANSION = 4
# BatchNorm's running statistics beside the parameters: less than a tenth of them from width 4 on.
_STATISTICS_SHARE = 0.1
_RECORDS_BYTES = 100_000  # names, history and manifest of one checkpoint


def most_checkpoint_bytes(space: SearchSpace) -> int:
    """Return an upper bound of the size of one checkpoint, for the largest configuration of the space.

    Parameters and their momentum, in the precision of training, with BatchNorm's statistics.
    """
    fields = ("backbone", "width", "exit_stages", "exit_depth", "projection_dim")
    possible = itertools.product(*(_values(space, f"model.{field}") for field in fields))
    largest = max(_parameters(*values) for values in possible)
    bytes_each = 8 if "fp64" in _values(space, "optim.precision") else 4
    return _RECORDS_BYTES + round(largest * bytes_each * (2 + _STATISTICS_SHARE))


def num_protected(space: SearchSpace, num_trials: int) -> int:
    """Return of how many of the best trials the checkpoints stay, whatever they take.

    Those that are confirmed. Of several objectives one new trial may take several off the Pareto front, so
    that others move up by more than one: then the whole front is needed.
    """
    top_k = max(1, space.confirm.top_k if space.confirm else 0)
    return num_trials if top_k > 1 and len(space.objectives) > 1 else min(top_k, num_trials)


def most_bytes(space: SearchSpace, *, num_trials: int, num_trainings: int, at_once: int) -> int:
    """Return how much the checkpoints of a search take at most at any moment.

    A trial that runs keeps its newest ones while it writes another; of those that ended the best keep theirs,
    and others as far as the budget goes. `num_trainings` counts the seeds of the confirmation too.
    """
    each = most_checkpoint_bytes(space)
    running = min(at_once, num_trainings) * (NUM_KEPT_CHECKPOINTS + 1) * each
    ended = (
        num_protected(space, num_trials) * NUM_KEPT_CHECKPOINTS * each + space.search.checkpoint_budget_bytes
    )
    return min(running + ended, num_trainings * (NUM_KEPT_CHECKPOINTS + 1) * each)


def _parameters(
    backbone: str, width: int, exits: Collection[int], depth: str | int, projection_dim: int
) -> int:
    if backbone in NETWORKS:
        return most_parameters(backbone, width, exits, depth, projection_dim)
    heads = head_parameters(backbone, width, num_heads=len(exits) + 1, projection_dim=projection_dim)
    return encoder_parameters(backbone, width, exits, depth) + heads


def encoder_parameters(
    backbone: str, width: int, exit_stages: Collection[int], exit_depth: str | int, *, stem_kernel: int = 7
) -> int:
    """Return the parameters of a ResNet with its sub-networks, without projection heads.

    The larger stem, 7x7, is assumed unless `stem_kernel` is 3, that of small images.
    """
    blocks, _ = RESNETS[backbone]
    stem = _convolution(3, width, stem_kernel)
    stages = sum(_stage(backbone, width, stage, num) for stage, num in enumerate(blocks, start=1))
    exits = sum(_sub_network(backbone, width, stage, exit_depth) for stage in exit_stages)
    return stem + stages + exits


def head_parameters(backbone: str, width: int, *, num_heads: int, projection_dim: int) -> int:
    """Return the parameters of the projection heads: Linear, BatchNorm, ReLU, Linear on the last features."""
    features = _channels(backbone, width, 4)
    return num_heads * (_linear(features, features) + 2 * features + _linear(features, projection_dim))


def _sub_network(backbone: str, width: int, after: int, depth: str | int) -> int:
    """What hangs on the backbone after a stage: one linear layer, or stages of its own."""
    if depth == "fc":
        return _linear(_channels(backbone, width, after), _channels(backbone, width, 4))
    return sum(
        _stage(backbone, width, stage, _exit_blocks(RESNETS[backbone][0][stage - 1], depth))
        for stage in range(after + 1, 5)
    )


def _exit_blocks(num_blocks: int, depth: str | int) -> int:
    if isinstance(depth, int):
        return depth
    return {"small": max(1, num_blocks // 2), "same": num_blocks, "large": 2 * num_blocks}[depth]


def _channels(backbone: str, width: int, stage: int) -> int:
    """What stage 1 to 4 gives on."""
    expansion = _BOTTLENECK_EXPANSION if RESNETS[backbone][1] else 1
    return (width << (stage - 1)) * expansion


def _stage(backbone: str, width: int, stage: int, num_blocks: int) -> int:
    inner, outer = width << (stage - 1), _channels(backbone, width, stage)
    before = width if stage == 1 else _channels(backbone, width, stage - 1)
    shortcut = _convolution(before, outer, 1) if before != outer else 0
    return shortcut + _block(before, inner, outer) + (num_blocks - 1) * _block(outer, inner, outer)


def _block(before: int, inner: int, outer: int) -> int:
    if inner == outer:
        return _convolution(before, inner, 3) + _convolution(inner, inner, 3)
    return _convolution(before, inner, 1) + _convolution(inner, inner, 3) + _convolution(inner, outer, 1)


def _convolution(before: int, after: int, kernel: int) -> int:
    """Without a bias, but with the scale and shift of the BatchNorm that follows."""
    return before * after * kernel**2 + 2 * after


def _linear(before: int, after: int) -> int:
    return before * after + after


def _values(space: SearchSpace, name: str) -> list[Any]:
    """What a field can be; of a range its ends."""
    return list(dict.fromkeys(values[name] for values in space.tree.combinations([name])))
