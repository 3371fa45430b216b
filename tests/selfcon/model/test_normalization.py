from typing import Any

import pytest
import torch
from torch import Tensor, nn

from selfcon.distributed import rank
from selfcon.model.normalization import BatchNorm, normalization_layer
from tests.selfcon.ranks import on_ranks

IMAGES, VECTORS = (6, 5, 4, 3), (6, 5)


def batch(shape: tuple[int, ...], *, seed: int = 0, mean: float = 10.0) -> Tensor:
    """Five channels of unlike means and scales."""
    generator = torch.Generator().manual_seed(seed)
    channels = torch.arange(1.0, 6, dtype=torch.float64).view(1, 5, *[1] * (len(shape) - 2))
    return (torch.randn(shape, dtype=torch.float64, generator=generator) + mean) * channels


def steps(shape: tuple[int, ...]) -> tuple[list[Tensor], list[Tensor]]:
    """The batches of three training steps, and the gradients that come back to their outputs."""
    return [batch(shape, seed=i) for i in range(3)], [batch(shape, seed=i, mean=0.1) for i in range(3, 6)]


def layer_with_weights(layer: nn.Module) -> nn.Module:
    """Give a layer of five channels a scale and a shift that are not those it starts with."""
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(torch.linspace(-0.5, 2, 5))
    return layer.double()


def trained_on(layer: nn.Module, batches: list[Tensor], sent_back: list[Tensor]) -> list[Tensor]:
    """Outputs, gradients of inputs and parameters, and the state after some training steps."""
    outputs, gradients = [], []
    for x, gradient in zip(batches, sent_back, strict=True):
        leaf = x.clone().requires_grad_()
        y = layer(leaf)
        y.backward(gradient)
        assert leaf.grad is not None
        outputs.append(y.detach())
        gradients.append(leaf.grad)
    parameters = [parameter.grad for parameter in layer.parameters() if parameter.grad is not None]
    return [*outputs, *gradients, *parameters, *layer.state_dict().values()]


@pytest.mark.parametrize(("shape", "reference"), [(VECTORS, nn.BatchNorm1d), (IMAGES, nn.BatchNorm2d)])
def test_in_one_process_batch_norm_is_torchs(shape: tuple[int, ...], reference: type[nn.Module]) -> None:
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
def test_ranks_together_normalise_as_one_process_would(rows: tuple[int, ...]) -> None:
    of_rank = on_ranks(trained_on_my_rows, len(rows), rows)
    for i, (shape, torchs) in enumerate([(VECTORS, nn.BatchNorm1d(5)), (IMAGES, nn.BatchNorm2d(5))]):
        expected = trained_on(layer_with_weights(torchs), *steps(shape))
        by_quantity = list(zip(*(found[i] for found in of_rank), strict=True))
        # Outputs and gradients of inputs lie spread over the ranks, gradients of parameters add up.
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


def test_ranks_have_the_same_bits_in_float32_and_keep_the_inputs_dtype() -> None:
    first, second = on_ranks(running_statistics_of_my_rows, 2)
    assert [x.dtype for x in first[:2]] == [torch.float32, torch.bfloat16]
    assert all(torch.equal(a, b) for a, b in zip(first[2:], second[2:], strict=True))


def test_batch_norm_refuses_what_has_no_channels() -> None:
    with pytest.raises(ValueError, match=r"expected rows x channels, got shape \[3\]"):
        BatchNorm(3)(torch.zeros(3))


@pytest.mark.parametrize("name", ["group", "frozen"])
def test_group_and_frozen_normalise_each_image_alone(name: Any) -> None:
    layer = layer_with_weights(normalization_layer(name)(5))
    x = batch(IMAGES)
    torch.testing.assert_close(layer(x)[:2], layer(x[:2]), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("num_channels", "num_groups"), [(2048, 32), (64, 32), (32, 16), (48, 16), (4, 2), (9, 1), (1, 1)]
)
def test_group_has_the_most_groups_of_two_channels_that_divide_32(num_channels: int, num_groups: int) -> None:
    layer = normalization_layer("group")(num_channels)
    assert isinstance(layer, nn.GroupNorm)
    assert layer.num_groups == num_groups


def test_frozen_has_nothing_to_train_and_nothing_that_training_changes() -> None:
    layer = normalization_layer("frozen")(5).double()
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer(batch(IMAGES))
    assert list(layer.parameters()) == []
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
