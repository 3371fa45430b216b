import pytest
import torch
from torch import nn

from selfcon.model.initialization import HE_FAN_OUT, initialise


@pytest.mark.parametrize("zero_biases", [True, False])
def test_only_convolutions_and_linear_layers_are_initialised(zero_biases: bool) -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Sequential(nn.Linear(4, 2)))
    before = {name: value.clone() for name, value in network.named_parameters()}
    initialise(network, weight=lambda weight: nn.init.constant_(weight, 7.0), zero_biases=zero_biases)
    biases = {name: torch.zeros_like(before[name]) for name in ("0.bias", "2.0.bias") if zero_biases}
    weights = {name: torch.full_like(before[name], 7.0) for name in ("0.weight", "2.0.weight")}
    assert dict(network.named_parameters()).keys() == before.keys()
    for name, value in network.named_parameters():
        assert torch.equal(value, (before | weights | biases)[name])


def test_layers_without_a_bias_are_initialised() -> None:
    layer = nn.Conv2d(2, 3, 1, bias=False)
    initialise(layer, weight=nn.init.zeros_)
    assert (layer.weight == 0).all()


@pytest.mark.parametrize("groups", [1, 64])
def test_he_fan_out_depends_on_output_channels_and_kernel_area(groups: int) -> None:
    torch.manual_seed(0)
    weight = nn.Conv2d(64, 128, 5, groups=groups).weight
    HE_FAN_OUT(weight)
    assert weight.std().item() == pytest.approx((2 / (25 * 128)) ** 0.5, rel=0.05)
