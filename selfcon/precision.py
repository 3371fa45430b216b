"""The arithmetic of training: `optim.precision` as a dtype of weights, an autocast and a gradient scaler.

In bf16 and fp16 the network's forward pass runs under autocast on float32 weights (Micikevicius et al. 2018,
Mixed Precision Training); projections, loss, descent and evaluation stay float32.
"""

import warnings
from collections.abc import Mapping

import torch
from torch.nn import functional

from selfcon.config import Precision
from selfcon.errors import ConfigError

# Gradients that overflow with a loss scaled by less than this are too large for fp16, not badly scaled.
SMALLEST_SCALE = 1.0
_AUTOCAST: Mapping[Precision, torch.dtype] = {"bf16": torch.bfloat16, "fp16": torch.float16}


def dtype_of_weights(precision: Precision) -> torch.dtype:
    """Return the dtype of parameters, images and gradients."""
    return torch.float64 if precision == "fp64" else torch.float32


def autocast(device: torch.device, precision: Precision) -> torch.autocast:
    """Return the context of the network's forward pass; in fp32 and fp64 it does nothing."""
    dtype = _AUTOCAST.get(precision)
    return torch.autocast(device.type, dtype=dtype, enabled=dtype is not None)


def gradient_scaler(device: torch.device, precision: Precision) -> torch.amp.GradScaler:
    """Return what scales the loss, so that small gradients are not 0 in fp16; elsewhere it does nothing.

    Torch's own schedule: from 65536, halved where a gradient overflows (the step is left out), doubled after
    2000 steps in a row that did not.
    """
    return torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def check_precision(device: torch.device, precision: Precision) -> None:
    """Raise `ConfigError` where the device cannot train in this precision. A few numbers are tried out."""
    wanted = _AUTOCAST.get(precision)
    if wanted is None:
        return
    try:
        # Where autocast does not know the dtype it warns and turns itself off.
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
            "optim.precision", f"fp32, as {device.type} here cannot train in {precision}", precision
        )
