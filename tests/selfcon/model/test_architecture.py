import pytest
import torch
from torch import nn

from selfcon.config import ExitDepth
from selfcon.model.architecture import Architecture, Stage, num_blocks_at


def stage(name: str, in_channels: int, out_channels: int, *, num_blocks: int) -> Stage:
    """A block here is a 1x1 convolution; the first changes the channels."""

    def build(num_blocks: int) -> nn.Module:
        others = (nn.Conv2d(out_channels, out_channels, 1) for _ in range(1, num_blocks))
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), *others)

    return Stage(name=name, num_blocks=num_blocks, num_channels=out_channels, build=build)


ARCHITECTURE = Architecture(
    build_stem=lambda: {"stem": nn.Conv2d(3, 4, 1)},
    stages=(
        stage("early", 4, 5, num_blocks=2),
        stage("middle", 5, 6, num_blocks=5),
        stage("late", 6, 7, num_blocks=1),
    ),
)


def test_a_backbone_is_a_stem_its_stages_and_a_pooling() -> None:
    backbone = ARCHITECTURE.build_backbone()
    assert [name for name, _ in backbone.named_children()] == [
        "stem", "early", "middle", "late", "avgpool", "flatten",
    ]  # fmt: skip
    assert [len(backbone.get_submodule(stage.name)._modules) for stage in ARCHITECTURE.stages] == [2, 5, 1]
    assert backbone(torch.zeros(2, 3, 8, 8)).shape == (2, ARCHITECTURE.feature_dim) == (2, 7)


@pytest.mark.parametrize(
    ("exit_stage", "exit_depth", "expected"),
    [
        (1, "small", {"middle": 2, "late": 1}),
        (1, "same", {"middle": 5, "late": 1}),
        (1, "large", {"middle": 10, "late": 2}),
        (1, 3, {"middle": 3, "late": 3}),
        (2, "same", {"late": 1}),
    ],
)
def test_a_subnetwork_is_the_later_stages_thinner_or_deeper(
    exit_stage: int, exit_depth: ExitDepth, expected: dict[str, int]
) -> None:
    subnetwork = ARCHITECTURE.build_subnetwork(exit_stage, exit_depth)
    stages = {name: len(layer._modules) for name, layer in subnetwork.named_children() if layer._modules}
    assert stages == expected
    channels = ARCHITECTURE.stages[exit_stage - 1].num_channels
    assert subnetwork(torch.zeros(2, channels, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize("exit_stage", [1, 2])
def test_an_fc_subnetwork_is_a_pooling_and_one_linear_layer(exit_stage: int) -> None:
    subnetwork = ARCHITECTURE.build_subnetwork(exit_stage, "fc")
    channels = ARCHITECTURE.stages[exit_stage - 1].num_channels
    assert {name: value.shape for name, value in subnetwork.state_dict().items()} == {
        "fc.weight": (7, channels),
        "fc.bias": (7,),
    }
    x_RCHW = torch.randn(2, channels, 4, 4)
    expected_RD = subnetwork.get_submodule("fc")(x_RCHW.mean(dim=(2, 3)))
    torch.testing.assert_close(subnetwork(x_RCHW), expected_RD)


def test_every_subnetwork_is_a_fresh_copy() -> None:
    backbone, *subnetworks = (
        ARCHITECTURE.build_backbone(),
        *(ARCHITECTURE.build_subnetwork(2, "same") for _ in "ab"),
    )
    weights = [network.get_parameter("late.0.weight") for network in (backbone, *subnetworks)]
    assert not torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[1], weights[2])


@pytest.mark.parametrize(
    ("num_blocks", "small", "same", "large"), [(1, 1, 1, 2), (2, 1, 2, 4), (3, 1, 3, 6), (23, 11, 23, 46)]
)
def test_depth_is_said_in_blocks_of_the_backbone(num_blocks: int, small: int, same: int, large: int) -> None:
    assert num_blocks_at("small", num_blocks) == small
    assert num_blocks_at("same", num_blocks) == same
    assert num_blocks_at("large", num_blocks) == large
    assert num_blocks_at(7, num_blocks) == 7
