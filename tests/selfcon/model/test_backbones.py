import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import torchvision
from torch import Tensor, nn

from selfcon.config import Backbone, ModelConfig
from selfcon.model import SelfConEncoder, build_encoder
from selfcon.model.architecture import BackboneOptions
from selfcon.model.backbones import BACKBONES
from selfcon.model.normalization import BatchNorm
from selfcon.rules import NUM_STAGES

WITH_BATCH_NORM = [name for name in BACKBONES if name != "convnext_tiny"]
# As published, or as in torchvision without the classifier.
FEATURE_DIMS = {
    "resnet18": 512, "resnet34": 512, "resnet50": 2048, "resnet101": 2048, "wrn_16_8": 512, "wrn_28_10": 640,
    "vgg13_bn": 512, "vgg16_bn": 512, "efficientnet_b0": 1280, "convnext_tiny": 768, "regnet_y_400mf": 440,
}  # fmt: skip
# Sub-networks of depth `same` that differ from the later stages of the backbone.
OTHER_SUBNETWORKS = ("vgg16_bn",)


def options(name: str, *, width: int = 64, small_images: bool = True) -> BackboneOptions:
    return BackboneOptions(
        name=name, width=width, in_channels=3, small_images=small_images, normalization=BatchNorm
    )


def with_all_exits(name: str, **changes: Any) -> SelfConEncoder:
    torch.manual_seed(0)
    stages = tuple(range(1, NUM_STAGES[name]))
    fields: dict[str, Any] = {"backbone": name, "width": 8, "exit_stages": stages, "exit_depth": "small"}
    return build_encoder(ModelConfig(**{"projection_dim": 6} | fields | changes), image_size=32)


def images(num_rows: int = 3) -> Tensor:
    return torch.randn(num_rows, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_backbones_match_the_config_and_the_rules() -> None:
    assert list(BACKBONES) == sorted(BACKBONES, key=list(get_args(Backbone)).index)
    assert {name: len(BACKBONES[name](options(name)).stages) for name in get_args(Backbone)} == NUM_STAGES


@pytest.mark.parametrize("width", [8, 16])
@pytest.mark.parametrize("name", BACKBONES)
def test_all_weights_of_a_narrow_network_get_gradients_at_32_pixels(name: str, width: int) -> None:
    encoder = with_all_exits(name, width=width).train()
    features = encoder.features(images())
    assert [x_RD.shape for x_RD in features] == [(3, encoder.feature_dim)] * NUM_STAGES[name]
    weight_RED = torch.randn(3, NUM_STAGES[name], 6)
    (encoder(images()) * weight_RED).sum().backward()
    gradients = [parameter.grad for parameter in encoder.parameters()]
    assert all(gradient is not None and gradient.isfinite().all() for gradient in gradients)


@pytest.mark.parametrize("name", BACKBONES)
def test_forward_pass_uses_no_random_numbers(name: str) -> None:
    encoder = with_all_exits(name).train()
    state = torch.get_rng_state()
    first, second = encoder(images()), encoder(images())
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first, second)


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
@pytest.mark.parametrize(
    ("normalization", "kind"),
    [("batch", "BatchNorm"), ("group", "GroupNorm"), ("frozen", "FrozenBatchNorm2d")],
)
def test_every_normalisation_can_be_replaced(name: str, normalization: str, kind: str) -> None:
    encoder = with_all_exits(name, normalization=normalization)
    for part in (encoder.backbone, encoder.exits):
        kinds = {type(layer).__name__ for layer in part.modules()}
        assert {found for found in kinds if "Norm" in found and "Conv" not in found} == {kind}


@pytest.mark.parametrize("name", WITH_BATCH_NORM)
def test_group_works_on_maps_of_one_pixel(name: str) -> None:
    layers = with_all_exits(name, width=4, normalization="group").train().features(images(1))
    assert all(x_RD.isfinite().all() for x_RD in layers)


@pytest.mark.parametrize("name", BACKBONES)
def test_feature_dim_is_as_published_and_proportional_to_the_width(name: str) -> None:
    published, half = (BACKBONES[name](options(name, width=width)).feature_dim for width in (64, 32))
    assert published == FEATURE_DIMS[name]
    # Channels are rounded to multiples of 8 in some families, and four times that in a tail.
    assert half == pytest.approx(published / 2, abs=4)


@pytest.mark.parametrize(
    ("name", "resolution_of_32", "resolution_of_224"),
    [
        ("resnet18", 4, 7),
        ("resnet101", 4, 7),
        ("wrn_16_8", 8, 56),
        ("wrn_28_10", 8, 56),
        ("vgg13_bn", 1, 7),
        ("vgg16_bn", 1, 7),
        ("efficientnet_b0", 4, 7),
        ("convnext_tiny", 4, 7),
        ("regnet_y_400mf", 4, 7),
    ],
)
def test_total_stride_is_8_for_small_images_and_32_for_others(
    name: Any, resolution_of_32: int, resolution_of_224: int
) -> None:
    found = []
    for image_size in (32, 224):
        with torch.device("meta"):
            encoder = build_encoder(ModelConfig(backbone=name, exit_stages=()), image_size=image_size)
            pool = encoder.backbone.get_submodule("avgpool")
            pool.register_forward_hook(lambda _pool, maps, _output: found.append(maps[0].shape[2:]))
            encoder.features(torch.empty(1, 3, image_size, image_size))
    assert found == [(resolution_of_32,) * 2, (resolution_of_224,) * 2]


@pytest.mark.parametrize("name", [name for name in BACKBONES if name not in OTHER_SUBNETWORKS])
def test_subnetwork_of_depth_same_copies_the_later_stages_and_the_tail(name: str) -> None:
    architecture = BACKBONES[name](options(name, width=8))
    later = architecture.stages[1:]
    expected = {stage.name: stage.num_blocks for stage in later}
    assert {stage.name: stage.num_subnetwork_blocks for stage in later} == expected
    backbone, subnetwork = (
        {key: value.shape for key, value in network.state_dict().items()}
        for network in (architecture.build_backbone(), architecture.build_subnetwork(1, "same"))
    )
    tail = architecture.build_subnetwork_tail()
    names = (*expected, *tail)
    assert subnetwork == {key: shape for key, shape in backbone.items() if key.split(".")[0] in names}


@pytest.mark.parametrize(
    "name", ["resnet18", "vgg13_bn", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf"]
)
def test_weights_are_initialised_like_torchvision(name: Any) -> None:
    torch.manual_seed(0)
    ours = build_encoder(ModelConfig(backbone=name, exit_stages=()), image_size=96)
    theirs = dict(torchvision.models.get_model(name, weights=None).named_parameters())
    for key, value in ours.backbone.named_parameters():
        expected = theirs[ours.state_dict_names.published(key)]
        # Constants are equal; others have the same mean and deviation, within five standard errors.
        scale, error = expected.std(correction=0), 5 * (2 / expected.numel()) ** 0.5
        torch.testing.assert_close(value.mean(), expected.mean(), rtol=0, atol=(error * scale).item() + 1e-9)
        torch.testing.assert_close(value.std(correction=0), scale, rtol=max(error, 1e-6), atol=0)


LAZY = """
import sys, torch
from selfcon.config import ModelConfig
from selfcon.model import build_encoder
for name in ("resnet18", "wrn_16_8", "vgg16_bn"):
    build_encoder(ModelConfig(backbone=name, width=8), image_size=32)
print("torchvision" in sys.modules)
"""


def test_torchvision_is_imported_only_if_needed(
    run_python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    assert run_python(LAZY, cwd=tmp_path).stdout.split() == ["False"]


def test_batch_norm_is_always_the_exact_distributed_one() -> None:
    layers = [layer for name in WITH_BATCH_NORM for layer in with_all_exits(name).modules()]
    assert not [layer for layer in layers if isinstance(layer, nn.BatchNorm2d)]
