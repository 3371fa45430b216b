"""Weight initialisation, as in torchvision."""

from collections.abc import Callable
from functools import partial

from torch import nn

# Normal, with a variance of 2 / (kernel area x output channels) (He et al. 2015, arXiv:1502.01852, eq. 14).
HE_FAN_OUT = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


def initialise(network: nn.Module, *, weight: Callable[..., object], zero_biases: bool = True) -> None:
    """Set every convolution and linear layer: weights by `weight`, biases to 0 or left as they are."""
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            weight(layer.weight)
            if zero_biases and layer.bias is not None:
                nn.init.zeros_(layer.bias)
