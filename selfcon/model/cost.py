"""Cost of an encoder, without its projection heads, which are only used in training."""

import copy
from typing import Any

import torch
from torch import Tensor, nn

from selfcon.model.encoder import SelfConEncoder


def encoder_parameters(encoder: SelfConEncoder) -> int:
    """Return the number of parameters of the backbone and its sub-networks."""
    parts = (encoder.backbone, encoder.exits)
    return sum(parameter.numel() for part in parts for parameter in part.parameters())


def forward_macs(encoder: SelfConEncoder, *, image_size: int) -> int:
    """Return the multiply-accumulates of one square image of `image_size` pixels through all exits.

    Counts convolutions and linear layers: each output takes as many products as a filter has weights. Ignores
    biases, normalisation, activations and pooling. Uses a copy of the network on the meta device.
    """
    observed = copy.deepcopy(encoder).eval()
    macs: list[int] = []

    def count(layer: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        macs.append(output.numel() * layer.get_parameter("weight")[0].numel())

    for module in observed.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    like = next(encoder.parameters())
    with torch.no_grad():
        observed.features(like.new_zeros(1, encoder.in_channels, image_size, image_size))
    return sum(macs)
