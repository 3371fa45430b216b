from typing import Literal

import pytest
import torch
from torch import nn

from selfcon.model.normalization import BatchNorm
from selfcon.model.projection import build_projection_head


@pytest.mark.parametrize(
    ("normalization", "layers"),
    [("none", [nn.Linear, nn.ReLU, nn.Linear]), ("batch", [nn.Linear, BatchNorm, nn.ReLU, nn.Linear])],
)
def test_a_head_is_two_linear_layers_with_or_without_batch_norm(
    normalization: Literal["batch", "none"], layers: list[type[nn.Module]]
) -> None:
    head = build_projection_head(6, 3, normalization=normalization)
    assert [type(layer) for layer in head] == layers
    shapes = [layer.weight.shape for layer in head if isinstance(layer, nn.Linear)]
    assert shapes == [(6, 6), (3, 6)]
    assert head(torch.randn(5, 6)).shape == (5, 3)


def test_batch_norm_removes_what_all_features_share() -> None:
    head = build_projection_head(6, 3, normalization="batch").double()
    features_RD = torch.randn(5, 6, dtype=torch.float64)
    shared_D = 100 * torch.randn(6, dtype=torch.float64)
    torch.testing.assert_close(head(features_RD + shared_D), head(features_RD), rtol=1e-9, atol=1e-9)
