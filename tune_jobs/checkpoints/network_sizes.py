"""How many parameters the networks that are not ResNets have, from a table, so that a preview needs no torch.

The table holds them at `model.width` 64; a test counts them on the networks themselves.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass

PUBLISHED_WIDTH = 64


@dataclass(frozen=True)
class StageSize:
    """A stage's blocks (in the backbone, in a sub-network of depth `same`), parameters and channels.

    `first` is the parameters of the stage with one block, `further` those that each other block adds.
    """

    num_blocks: int
    num_subnetwork_blocks: int
    first: int
    further: int
    num_channels: int

    def parameters(self, num_blocks: int) -> int:
        """Return the parameters of the stage with that many blocks."""
        return self.first + (num_blocks - 1) * self.further


@dataclass(frozen=True)
class NetworkSize:
    """A backbone's parameters: stem, stages, tail, that of a sub-network, and the size of its features."""

    stem: int
    stages: tuple[StageSize, ...]
    tail: int
    subnetwork_tail: int
    feature_dim: int


def _network(stem: int, stages: str, tail: int, subnetwork_tail: int, feature_dim: int) -> NetworkSize:
    rows = (StageSize(*map(int, line.split())) for line in stages.strip().splitlines())
    return NetworkSize(stem, tuple(rows), tail, subnetwork_tail, feature_dim)


NETWORKS: Mapping[str, NetworkSize] = {
    "wrn_16_8": _network(
        448,
        """
        2 2 168608 295680 128
        2 2 919040 1181184 256
        2 2 3673088 4721664 512
        """,
        1024,
        0,
        512,
    ),
    "wrn_28_10": _network(
        448,
        """
        4 4 256832 461760 160
        4 4 1435520 1845120 320
        4 4 5738240 7376640 640
        """,
        1280,
        0,
        640,
    ),
    "vgg13_bn": _network(
        0,
        """
        2 2 1920 37056 64
        2 2 74112 147840 128
        2 2 295680 590592 256
        2 2 1181184 2360832 512
        2 2 2360832 2360832 512
        """,
        0,
        0,
        512,
    ),
    "vgg16_bn": _network(
        0,
        """
        2 3 1920 37056 64
        2 3 74112 147840 128
        3 3 295680 590592 256
        3 3 1181184 2360832 512
        3 3 2360832 2360832 512
        """,
        0,
        0,
        512,
    ),
    "efficientnet_b0": _network(
        928,
        """
        1 1 1448 612 16
        2 2 6004 10710 24
        2 2 15350 31290 40
        3 3 37130 102900 80
        3 3 126004 208572 112
        4 4 262492 587952 192
        1 1 717232 1563600 320
        """,
        412160,
        412160,
        1280,
    ),
    "convnext_tiny": _network(
        4896,
        """
        3 3 79296 79296 96
        3 3 380160 306048 192
        9 9 1497600 1201920 384
        3 3 5944320 4763136 768
        """,
        1536,
        1536,
        768,
    ),
    "regnet_y_400mf": _network(
        928,
        """
        1 1 10040 9564 48
        3 3 31732 35282 104
        6 6 114218 124644 208
        6 6 458092 518870 440
        """,
        0,
        0,
        440,
    ),
}


def published_parameters(backbone: str, exit_stages: Collection[int], exit_depth: str | int) -> int:
    """Return the parameters of a backbone with its sub-networks at width 64, without projection heads."""
    network = NETWORKS[backbone]
    stages = sum(stage.parameters(stage.num_blocks) for stage in network.stages)
    exits = sum(_sub_network(network, after, exit_depth) for after in exit_stages)
    return network.stem + stages + network.tail + exits


def most_parameters(
    backbone: str, width: int, exit_stages: Collection[int], exit_depth: str | int, projection_dim: int
) -> int:
    """Return an upper bound of all parameters at a width, projection heads included.

    Channels scale with the width, hence weights with its square and biases with itself: above 64 the square
    bounds both, below it the width itself does.
    """
    features = NETWORKS[backbone].feature_dim
    head = features * features + 3 * features + features * projection_dim + projection_dim
    published = published_parameters(backbone, exit_stages, exit_depth) + (len(exit_stages) + 1) * head
    scale = width / PUBLISHED_WIDTH
    # What does not scale: the stem's three colours and the projection's biases.
    return round(published * max(scale, scale**2)) + (len(exit_stages) + 1) * projection_dim


def _sub_network(network: NetworkSize, after: int, depth: str | int) -> int:
    if depth == "fc":
        return (network.stages[after - 1].num_channels + 1) * network.feature_dim
    stages = network.stages[after:]
    return sum(stage.parameters(_blocks(stage, depth)) for stage in stages) + network.subnetwork_tail


def _blocks(stage: StageSize, depth: str | int) -> int:
    if isinstance(depth, int):
        return depth
    same = stage.num_subnetwork_blocks
    return {"small": max(1, same // 2), "same": same, "large": 2 * same}[depth]
