import torch
from torch import nn

from selfcon.config import ModelConfig
from selfcon.model import build_encoder
from selfcon.model.architecture import BackboneOptions
from selfcon.model.efficientnet import efficientnet
from selfcon.model.normalization import BatchNorm


def test_channels_of_a_narrow_network_are_the_nearest_multiples_of_8() -> None:
    options = BackboneOptions(
        name="efficientnet_b0", width=16, in_channels=3, small_images=True, normalization=BatchNorm
    )
    architecture = efficientnet(options)
    # A quarter of 16, 24, 40, 80, 112, 192, 320 is 4, 6, 10, 20, 28, 48, 80.
    assert [stage.num_channels for stage in architecture.stages] == [8, 8, 8, 24, 32, 48, 80]
    assert architecture.feature_dim == 4 * 80


def test_subnetwork_ends_with_a_separate_tail() -> None:
    config = ModelConfig(backbone="efficientnet_b0", width=8, exit_stages=(4,), exit_depth="small")
    encoder = build_encoder(config, image_size=32)
    subnetwork = dict(encoder.exits["stage4"].named_children())
    assert list(subnetwork) == ["stage5", "stage6", "stage7", "head", "avgpool", "flatten"]
    weights = [layer.get_parameter("head.0.weight") for layer in (encoder.backbone, encoder.exits["stage4"])]
    assert weights[0].shape == weights[1].shape
    assert not torch.equal(*weights)


def test_there_is_no_stochastic_depth() -> None:
    encoder = build_encoder(ModelConfig(backbone="efficientnet_b0", width=8), image_size=32)
    rates = [layer.p for layer in encoder.modules() if type(layer).__name__ == "StochasticDepth"]
    assert len(rates) == 16
    assert not any(rates)
    assert not [layer for layer in encoder.modules() if isinstance(layer, nn.Dropout)]
