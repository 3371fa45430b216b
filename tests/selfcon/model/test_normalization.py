from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfcon.distributed import rank
from selfcon.model.normalization import BatchNorm, normalization_layer
from tests.selfcon.ranks import on_ranks

IMAGES, VECTORS = (6, 5, 4, 3), (6, 5)


def batch(shape: tuple[int, ...], *, seed: int = 0, mean: float = 10.0) -> Tensor:
    """Return five channels with different means and scales."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.arange(1.0, 6, dtype=torch.float64).view(1, 5, *[1] * (len(shape) - 2))
    return (torch.randn(shape, dtype=torch.float64, generator=generator) + mean) * channels


def steps(shape: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """Return the batches of three training steps, and the gradients of their outputs."""
    return [batch(shape, seed=i) for i in range(3)], [batch(shape, seed=i, mean=0.1) for i in range(3, 6)]


def layer_with_weights(layer: nn.Module) -> nn.Module:
    """Give a layer of five channels another scale and shift than the initial ones."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.linspace(-0.5, 2, 5))
    return layer.double()


def trained_on(layer: nn.Module, batches: list[Tensor], output_gradients: list[Tensor]) -> list[Tensor]:
    """Return outputs, gradients of inputs and parameters, and the state after some training steps."""
    outputs, gradients = [], []
    for x, gradient in zip(batches, output_gradients, strict=True):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(gradient)
        assert leaf.grad is not None
        outputs.append(y.detach())
        gradients.append(leaf.grad)
    parameters = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    return [*outputs, *gradients, *parameters, *layer.state_dict().values()]


@pytest.mark.parametrize(("shape", "reference"), [(VECTORS, nn.BatchNorm1d), (IMAGES, nn.BatchNorm2d)])
def test_batch_norm_equals_torch_in_one_process(shape: tuple[int, ...], reference: type[nn.Module]) -> None:
    ours, torchs = layer_with_weights(BatchNorm(5)), layer_with_weights(reference(5))
    found, expected = (trained_on(layer, *steps(shape)) for layer in (ours, torchs))
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    assert ours.state_dict().keys() == torchs.state_dict().keys()
    assert torch.equal(ours.eval()(batch(shape)), torchs.eval()(batch(shape)))


def trained_on_my_rows(rows: tuple[int, ...]) -> list[list[Tensor]]:
    """This rank's part of `trained_on`, for vectors and for images."""
    found = []
    for shape in (VECTORS, IMAGES):
        mine = [[x.split(rows)[rank()] for x in tensors] for tensors in steps(shape)]
        found.append(trained_on(layer_with_weights(BatchNorm(5)), *mine))
    return found


@pytest.mark.parametrize("rows", [(5, 1), (2, 0, 4)], ids=str)
def test_batch_norm_over_ranks_equals_one_process(rows: tuple[int, ...]) -> None:
    of_rank = on_ranks(trained_on_my_rows, len(rows), rows)
    for i, (shape, torchs) in enumerate([(VECTORS, nn.BatchNorm1d(5)), (IMAGES, nn.BatchNorm2d(5))]):
        expected = trained_on(layer_with_weights(torchs), *steps(shape))
        by_quantity = list(zip(*(found[i] for found in of_rank), strict=True))
        # Outputs and gradients of inputs are distributed over the ranks; gradients of parameters are summed.
        found = [torch.cat(parts) for parts in by_quantity[:6]]
        found += [torch.stack(parts).sum(dim=0) for parts in by_quantity[6:8]]
        torch.testing.assert_close(found, expected[:8], rtol=1e-12, atol=1e-12)
        for state in zip(*by_quantity[8:], strict=True):
            torch.testing.assert_close(list(state), expected[8:], rtol=1e-13, atol=0)


def running_statistics_of_my_rows() -> list[Tensor]:
    layer = BatchNorm(5)
    mine = batch(IMAGES).float().split(3)[rank()]
    outputs = [layer(mine * 1000), layer(mine.bfloat16())]
    return [*outputs, layer.get_buffer("running_mean"), layer.get_buffer("running_var")]


def test_statistics_are_bit_identical_on_all_ranks_and_dtype_is_kept() -> None:
    first, second = on_ranks(running_statistics_of_my_rows, 2)
    assert [x.dtype for x in first[:2]] == [torch.float32, torch.bfloat16]
    assert all(torch.equal(a, b) for a, b in zip(first[2:], second[2:], strict=True))


def test_batch_norm_rejects_input_without_channels() -> None:
    with pytest.raises(ValueError, match=r"expected rows x channels, got shape \[3\]"):
        BatchNorm(3)(torch.zeros(3))


@pytest.mark.parametrize("name", ["group", "frozen"])
def test_group_and_frozen_normalise_each_image_separately(name: Any) -> None:
    layer = layer_with_weights(normalization_layer(name)(5))
    x = batch(IMAGES)
    torch.testing.assert_close(layer(x)[:2], layer(x[:2]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("num_channels", "num_groups"), [(2048, 32), (64, 32), (32, 16), (48, 16), (4, 2), (9, 1), (1, 1)]
)
def test_group_uses_the_largest_divisor_of_32_with_two_channels_per_group(
    num_channels: int, num_groups: int
) -> None:
    layer = normalization_layer("group")(num_channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == num_groups


def test_frozen_has_no_parameters_and_training_does_not_change_it() -> None:
    layer = normalization_layer("frozen")(5).double()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(batch(IMAGES))
    assert list(layer.parameters()) == []
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
