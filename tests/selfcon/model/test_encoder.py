import itertools
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from selfcon.config import ModelConfig
from selfcon.distributed import split_range, world_size
from selfcon.errors import ConfigError
from selfcon.losses.contrastive import selfcon_loss
from selfcon.model import SelfConEncoder, build_encoder
from tests.selfcon.ranks import on_ranks

SUBSETS = [stages for n in range(4) for stages in itertools.combinations((1, 2, 3), n)]


def tiny(**changes: Any) -> SelfConEncoder:
    torch.manual_seed(0)
    return build_encoder(ModelConfig(**{"width": 4, "projection_dim": 6} | changes), image_size=16)


def images(num_rows: int = 5, *, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    return torch.randn(num_rows, 3, 16, 16, generator=generator, dtype=torch.float64).to(dtype)


@pytest.mark.parametrize("exit_stages", SUBSETS, ids=str)
@pytest.mark.parametrize("exit_depth", ["fc", "small", "large", 3])
def test_exits_have_equal_feature_dims_and_unit_projections(
    exit_stages: tuple[int, ...], exit_depth: Any
) -> None:
    encoder = tiny(exit_stages=exit_stages, exit_depth=exit_depth)
    assert encoder.exit_stages == exit_stages
    assert encoder.feature_dim == 32
    features = encoder.features(images())
    assert [x_RD.shape for x_RD in features] == [(5, 32)] * (len(exit_stages) + 1)
    z_RED = encoder(images())
    assert z_RED.shape == (5, len(exit_stages) + 1, 6)
    torch.testing.assert_close(z_RED.norm(dim=2), torch.ones(z_RED.shape[:2]))


def test_exit_depends_only_on_the_backbone_up_to_its_stage() -> None:
    encoder = tiny(exit_stages=(1, 3), exit_depth="same").eval()
    before = encoder.features(images())
    with torch.no_grad():
        encoder.get_parameter("backbone.layer2.0.conv1.weight").zero_()
    first, third, backbone = (
        torch.equal(a, b) for a, b in zip(before, encoder.features(images()), strict=True)
    )
    assert (first, third, backbone) == (True, False, False)


def test_exits_and_heads_are_named_after_their_stage() -> None:
    encoder = tiny(exit_stages=(2, 3), exit_depth="same")
    assert {name.split(".")[0] for name in encoder.state_dict()} == {"backbone", "exits", "projection_heads"}
    assert list(encoder.exits) == ["layer2", "layer3"]
    assert list(encoder.projection_heads) == ["layer2", "layer3", "backbone"]
    assert "exits.layer2.layer3.0.conv1.weight" in encoder.state_dict()


@pytest.mark.parametrize("normalization", ["batch", "group", "frozen"])
def test_normalization_applies_to_the_network_and_projection_normalization_to_the_heads(
    normalization: Any,
) -> None:
    kinds = {"batch": "BatchNorm", "group": "GroupNorm", "frozen": "FrozenBatchNorm2d"}
    encoder = tiny(normalization=normalization, exit_depth="same", projection_normalization="batch")
    parts = (encoder.backbone, encoder.exits, encoder.projection_heads)
    found = [{type(m).__name__ for m in part.modules() if "Norm" in type(m).__name__} for part in parts]
    assert found == [{kinds[normalization]}, {kinds[normalization]}, {"BatchNorm"}]
    plain = tiny(normalization=normalization, projection_normalization="none").projection_heads
    assert not any("Norm" in type(module).__name__ for module in plain.modules())


def test_seed_determines_the_network() -> None:
    states = [tiny().state_dict(), tiny().state_dict()]
    torch.manual_seed(1)
    other = build_encoder(ModelConfig(width=4, projection_dim=6), image_size=16).state_dict()
    assert all(torch.equal(value, states[1][name]) for name, value in states[0].items())
    weight = "backbone.conv1.weight"
    assert not torch.equal(states[0][weight], other[weight])


def test_projections_are_float32_in_autocast_and_float64_for_a_float64_network() -> None:
    with torch.autocast("cpu", dtype=torch.bfloat16):
        z_RED = tiny()(images())
    assert z_RED.dtype == torch.float32
    torch.testing.assert_close(z_RED.norm(dim=2), torch.ones(z_RED.shape[:2]))
    assert tiny().double()(images(dtype=torch.float64)).dtype == torch.float64


def test_other_image_sizes_and_numbers_of_channels_work() -> None:
    encoder = build_encoder(ModelConfig(width=4), image_size=32, in_channels=1)
    assert encoder(torch.randn(2, 1, 20, 24)).shape == (2, 2, 128)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"backbone": "vgg16_bn"},
            r"data\.image_size: expected images of at least 32 pixels for vgg16_bn, got 16",
        ),
        (
            {"backbone": "convnext_tiny", "normalization": "group"},
            r"model\.normalization: expected batch, as convnext_tiny has LayerNorm .*, got group",
        ),
        ({"exit_stages": (4,)}, r"model\.exit_stages: expected stages from 1 to 3, .*, got \[4\]"),
        ({"exit_stages": (2, 1)}, r"model\.exit_stages: expected each stage once, in ascending order"),
    ],
)
def test_invalid_model_configs_are_rejected(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def gradient_of_my_share(backbone: str, exit_depth: str) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the loss of this rank and the averaged gradient of one training step."""
    encoder = tiny(backbone=backbone, exit_stages=(1, 2), exit_depth=exit_depth).double()
    network: nn.Module = encoder
    if world_size() > 1:
        network = DistributedDataParallel(encoder)
    mine = split_range(7)
    labels_B = torch.tensor([0, 1, 0, 2, 1, 0, 3])[mine.start : mine.stop]
    two_views = images(14, dtype=torch.float64).unflatten(0, (2, 7))[:, mine.start : mine.stop]
    loss = selfcon_loss(network(two_views.flatten(0, 1)), labels_B, num_views=2, exit_weights=[0.5, 2.0])
    loss.backward()
    gradients = {name: p.grad for name, p in encoder.named_parameters() if p.grad is not None}
    return loss.detach(), gradients | dict(encoder.named_buffers())


@pytest.mark.parametrize(
    ("backbone", "exit_depth"), [("resnet18", "fc"), ("resnet18", "small"), ("regnet_y_400mf", "small")]
)
def test_training_step_over_ranks_equals_one_process(backbone: str, exit_depth: str) -> None:
    expected_loss, expected = gradient_of_my_share(backbone, exit_depth)
    of_rank = on_ranks(gradient_of_my_share, 3, backbone, exit_depth)
    mean_loss = torch.stack([loss for loss, _ in of_rank]).mean()
    torch.testing.assert_close(mean_loss, expected_loss, rtol=1e-12, atol=0)
    encoder = tiny(backbone=backbone, exit_stages=(1, 2), exit_depth=exit_depth)
    assert expected.keys() == encoder.state_dict().keys()
    for _, found in of_rank:
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_num_classes_gives_every_exit_a_linear_classifier() -> None:
    torch.manual_seed(0)
    config = ModelConfig(width=8, exit_stages=(1, 3))
    encoder = build_encoder(config, image_size=16, num_classes=7).eval()
    images_RCHW = torch.randn(5, 3, 16, 16)
    logits_REC = encoder(images_RCHW)
    assert logits_REC.shape == (5, 3, 7)
    assert list(encoder.classifiers) == ["layer1", "layer3", "backbone"]
    assert not encoder.projection_heads
    last = encoder.classifiers["backbone"]
    torch.testing.assert_close(logits_REC[:, 2], last(encoder.features(images_RCHW)[-1]))
