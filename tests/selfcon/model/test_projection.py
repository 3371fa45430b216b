from typing import get_args

import pytest
import torch
from torch import nn

from selfcon.config import ProjectionNormalization
from selfcon.model.normalization import BatchNorm
from selfcon.model.projection import build_projection_head


@pytest.mark.parametrize(
    ("normalization", "layers"),
    [
        ("none", [nn.Linear, nn.ReLU, nn.Linear]),
        ("batch", [nn.Linear, BatchNorm, nn.ReLU, nn.Linear]),
        ("input", [BatchNorm, nn.Linear, nn.ReLU, nn.Linear]),
    ],
)
def test_head_is_two_linear_layers_with_batch_norm_at_the_configured_place(
    normalization: ProjectionNormalization, layers: list[type[nn.Module]]
) -> None:
    head = build_projection_head(6, 3, normalization=normalization)
    assert [type(layer) for layer in head] == layers
    shapes = [layer.weight.shape for layer in head if isinstance(layer, nn.Linear)]
    assert shapes == [(6, 6), (3, 6)]
    assert head(torch.randn(5, 6)).shape == (5, 3)


@pytest.mark.parametrize("normalization", ["batch", "input"])
def test_batch_norm_removes_the_common_component_of_features(normalization: ProjectionNormalization) -> None:
    head = build_projection_head(6, 3, normalization=normalization).double()
    features_RD = torch.randn(5, 6, dtype=torch.float64)
    shared_D = 100 * torch.randn(6, dtype=torch.float64)
    torch.testing.assert_close(head(features_RD + shared_D), head(features_RD), rtol=1e-9, atol=1e-9)


def test_position_of_batch_norm_does_not_change_initial_weights() -> None:
    states = []
    for normalization in get_args(ProjectionNormalization):
        torch.manual_seed(0)
        states.append(build_projection_head(6, 3, normalization=normalization).state_dict())
    for name in ("hidden.weight", "hidden.bias", "output.weight", "output.bias"):
        assert torch.equal(states[0][name], states[1][name])
        assert torch.equal(states[0][name], states[2][name])


def test_batch_norm_on_the_input_gives_every_feature_the_same_scale() -> None:
    torch.manual_seed(0)
    head = build_projection_head(6, 3, normalization="input").double()
    features_RD = torch.randn(50, 6, dtype=torch.float64)
    scales_D = torch.tensor([1, 10, 100, 0.1, 1, 5], dtype=torch.float64)
    # Except for the epsilon that is added to the variance.
    torch.testing.assert_close(head(features_RD * scales_D), head(features_RD), rtol=0, atol=1e-3)
