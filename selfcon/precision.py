"""Precision of training: the dtype of weights, autocast, and the gradient scaler of `optim.precision`.

In bf16 and fp16 the forward pass of the network uses autocast with float32 weights (Micikevicius et al. 2018,
Mixed Precision Training). Projections, loss, optimiser and evaluation stay float32.
"""

import warnings
from collections.abc import Mapping

import torch
from torch.nn import functional

from selfcon.config import Precision
from selfcon.errors import ConfigError

# If gradients overflow at a smaller scale, they are too large for fp16.
SMALLEST_SCALE = 1.0
_AUTOCAST: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of_weights(precision: Precision) -> torch.dtype:
    """Return the dtype of parameters, images and gradients."""
    return torch.float64 if precision == "fp64" else torch.float32


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context of the forward pass of the network; no effect in fp32 and fp64."""
    dtype = _AUTOCAST.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def gradient_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Return the scaler of the loss, so that small gradients are not 0 in fp16; no effect otherwise.

    The schedule is torch's: start at 65536, halve if a gradient overflows (the step is skipped), double after
    2000 steps without overflow.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def check_precision(device: torch.device, precision: Precision) -> None:
    """Raise `ConfigError` if the device cannot train in this precision, after a small test."""
    wanted = _AUTOCAST.get(precision)
    if wanted is None:
        return
    try:
        # If autocast does not support the dtype, it warns and is disabled.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            context = autocast(device, precision)
        weight = torch.ones(1, 1, 1, 1, device=device, requires_grad=True)
        with context:
            output = functional.conv2d(torch.ones(1, 1, 2, 2, device=device), weight)
        output.float().sum().backward()
        works = output.dtype == wanted
    except RuntimeError:
        works = False
    if not works:
        raise ConfigError(
            "optim.precision", f"fp32, as this {device.type} device cannot train in {precision}", precision
        )
