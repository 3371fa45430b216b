from dataclasses import replace

import pytest
import torch
from torch import nn

from selfcon.config import ExitDepth
from selfcon.model.architecture import Architecture, Layers, Stage, StateDictNames, num_blocks_at, scaled


def stage(name: str, in_channels: int, out_channels: int, *, num_blocks: int) -> Stage:
    """Return a stage of 1x1 convolutions; the first changes the channels."""

    def build(num_blocks: int) -> nn.Module:
        others = (nn.Conv2d(out_channels, out_channels, 1) for _ in range(1, num_blocks))
        return nn.Sequential(nn.Conv2d(in_channels, out_channels, 1), *others)

    return Stage(
        name=name,
        num_blocks=num_blocks,
        num_subnetwork_blocks=num_blocks,
        num_channels=out_channels,
        build=build,
    )


ARCHITECTURE = Architecture(
    build_stem=lambda: {"stem": nn.Conv2d(3, 4, 1)},
    stages=(
        stage("early", 4, 5, num_blocks=2),
        stage("middle", 5, 6, num_blocks=5),
        stage("late", 6, 7, num_blocks=1),
    ),
    feature_dim=7,
    state_dict_names=StateDictNames(origin="nobody"),
)


def widened(channels: int) -> Layers:
    return {"head": nn.Conv2d(7, channels, 1), "flatten": nn.Flatten()}


def test_backbone_is_stem_stages_and_pooling() -> None:
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
def test_subnetwork_has_the_later_stages_with_fewer_or_more_blocks(
    exit_stage: int, exit_depth: ExitDepth, expected: dict[str, int]
) -> None:
    subnetwork = ARCHITECTURE.build_subnetwork(exit_stage, exit_depth)
    stages = {name: len(layer._modules) for name, layer in subnetwork.named_children() if layer._modules}
    assert stages == expected
    channels = ARCHITECTURE.stages[exit_stage - 1].num_channels
    assert subnetwork(torch.zeros(2, channels, 8, 8)).shape == (2, 7)


@pytest.mark.parametrize("exit_stage", [1, 2])
def test_fc_subnetwork_is_pooling_and_one_linear_layer(exit_stage: int) -> None:
    subnetwork = ARCHITECTURE.build_subnetwork(exit_stage, "fc")
    channels = ARCHITECTURE.stages[exit_stage - 1].num_channels
    assert {name: value.shape for name, value in subnetwork.state_dict().items()} == {
        "fc.weight": (7, channels),
        "fc.bias": (7,),
    }
    x_RCHW = torch.randn(2, channels, 4, 4)
    expected_RD = subnetwork.get_submodule("fc")(x_RCHW.mean(dim=(2, 3)))
    torch.testing.assert_close(subnetwork(x_RCHW), expected_RD)


def test_subnetwork_can_differ_from_the_backbone_in_blocks_and_tail() -> None:
    architecture = replace(
        ARCHITECTURE,
        stages=tuple(replace(stage, num_subnetwork_blocks=4) for stage in ARCHITECTURE.stages),
        build_tail=lambda: widened(9),
        build_subnetwork_tail=lambda: widened(8),
    )
    backbone, subnetwork = architecture.build_backbone(), architecture.build_subnetwork(2, "same")
    assert len(backbone.get_submodule("late")._modules) == 1
    assert len(subnetwork.get_submodule("late")._modules) == 4
    assert backbone.get_parameter("head.weight").shape[0] == 9
    assert subnetwork.get_parameter("head.weight").shape[0] == 8


def test_all_layers_except_the_linear_layer_of_an_fc_exit_are_initialised() -> None:
    def fill(network: nn.Module) -> None:
        for parameter in network.parameters():
            nn.init.constant_(parameter, 7.0)

    architecture = replace(ARCHITECTURE, build_subnetwork_tail=lambda: widened(8), initialise=fill)
    for network in (architecture.build_backbone(), architecture.build_subnetwork(1, "small")):
        assert all((parameter == 7).all() for parameter in network.parameters())
    assert not any(
        (parameter == 7).any() for parameter in architecture.build_subnetwork(1, "fc").parameters()
    )


def test_stages_are_initialised_in_order_before_the_stem() -> None:
    torch.manual_seed(0)
    backbone = ARCHITECTURE.build_backbone()
    torch.manual_seed(0)
    stages = [stage.build(stage.num_blocks) for stage in ARCHITECTURE.stages]
    stem = nn.Conv2d(3, 4, 1)
    assert torch.equal(backbone.get_parameter("early.0.weight"), stages[0].get_parameter("0.weight"))
    assert torch.equal(backbone.get_parameter("late.0.weight"), stages[2].get_parameter("0.weight"))
    assert torch.equal(backbone.get_parameter("stem.weight"), stem.weight)


def test_every_subnetwork_has_new_weights() -> None:
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
def test_exit_depth_is_relative_to_the_blocks_of_the_backbone(
    num_blocks: int, small: int, same: int, large: int
) -> None:
    assert num_blocks_at("small", num_blocks) == small
    assert num_blocks_at("same", num_blocks) == same
    assert num_blocks_at("large", num_blocks) == large
    assert num_blocks_at(7, num_blocks) == 7


@pytest.mark.parametrize(
    ("num_channels", "width", "multiple_of", "expected"),
    [
        (96, 64, 1, 96),
        (96, 5, 1, 8),  # 7.5
        (16, 4, 1, 1),
        (16, 1, 1, 1),
        (440, 64, 8, 440),
        (320, 16, 8, 80),
        (48, 16, 8, 16),  # 12, half-way
        (24, 16, 8, 8),  # 6
        (16, 4, 8, 8),
        (16, 128, 8, 32),
    ],
)
def test_channels_are_scaled_to_the_nearest_multiple(
    num_channels: int, width: int, multiple_of: int, expected: int
) -> None:
    assert scaled(num_channels, width, multiple_of=multiple_of) == expected


def test_only_names_of_mapped_modules_change() -> None:
    names = StateDictNames(origin="nobody", modules={"a.1": "features.0", "b": "x.y"})
    keys = ["a.1.weight", "a.10.weight", "b.2.bias", "bb.bias", "c.weight"]
    expected = ["features.0.weight", "a.10.weight", "x.y.2.bias", "bb.bias", "c.weight"]
    assert [names.published(key) for key in keys] == expected
