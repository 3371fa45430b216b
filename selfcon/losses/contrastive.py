"""The self-contrastive loss between the exits of a network, exact over any number of ranks.

Bae et al., Self-Contrastive Learning (arXiv:2106.15499), eq. 3, with a weight for each exit; SupCon, SimCLR
and the paper's variants are settings of it.

Shape letters: B images, V views, R rows of this rank = V x B with view 0's images first, N rows of all ranks,
E exits with the backbone last, F exits that a contrast set spans, D dimensions, C classes; A anchors, Q a
chunk of them, and K keys, each the (row, exit) pairs of some exits with the exit running fastest.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from selfcon.distributed import gather_rows, gather_rows_without_gradient, rank, row_counts, world_size
from selfcon.errors import ConfigError
from selfcon.losses.exit_weights import relative_weights

# Logits in memory at once, 8 MB in float32. More need memory and, beyond the cache of a CPU, time.
_LOGITS_PER_CHUNK = 2**21


def selfcon_loss(
    z_RED: Tensor,
    labels_B: Tensor | None = None,
    *,
    num_views: int = 1,
    temperature: float = 0.1,
    base_temperature: float = 0.07,
    exit_weights: float | Sequence[float] | None = None,
    backbone_weight: float = 1.0,
    backbone_contrast: Literal["all", "backbone"] = "all",
    chunk_rows: int | None = None,
) -> Tensor:
    """Return the contrastive loss of L2-normalised projections, a scalar to minimise.

    An anchor is a (row, exit) pair. Its contrast set is all other pairs, including the other exits of its
    own row. Its positives P(a) are the pairs with its label, or without labels the pairs of its image. An
    anchor is valid if it has a positive. For exit e, over its valid anchors,

        L_e = sum_a -1/|P(a)| sum_{p in P(a)} log softmax(z_a . z_p / temperature) / max(1, their number)

    and the loss is sum_e w_e L_e / sum_e w_e * temperature / base_temperature (Bae et al., eq. 3).
    An exit without a valid anchor adds 0, and its weight stays in the denominator.

    In a process group every rank calls it with its own images; their number may differ between ranks. It
    returns this rank's share times the world size: the mean over the ranks is the loss of the global batch,
    and the mean of the ranks' gradients is its gradient.

    The arithmetic is float32, or float64 for float64 projections, also within autocast. Memory grows with
    rows x dimensions and with `chunk_rows`, never with rows x rows; logits are recomputed in the backward
    pass.

    Args:
        z_RED: L2-normalised projections of shape (R, E, D), with R = V x B rows (the images of view 0 first)
            and the backbone as the last exit.
        labels_B: Integer class of each image, >= 0. None: each image is a separate class (unsupervised).
        num_views: Number of views V.
        temperature: Divisor of the cosine similarities, > 0.
        base_temperature: The loss is scaled by temperature / base_temperature.
        exit_weights: Weights of the exits without the backbone: None (each 1), a number for all, or one for
            each. All weights are finite, >= 0 and not all 0.
        backbone_weight: Weight of the backbone.
        backbone_contrast: With "backbone", anchors of the backbone are contrasted only with the backbone.
        chunk_rows: Number of anchors whose logits are in memory at once. None: chosen by their size.

    Returns:
        A scalar tensor in float32, or float64 for float64 projections; NaN for NaN projections.

    Raises:
        ConfigError: Arguments do not fit together, a label is negative, or the norm of a projection differs
            from 1 by more than 1e-3 (1e-2 for 16-bit ones).

    Example:
        >>> import torch
        >>> z_RED = torch.nn.functional.normalize(torch.eye(4).reshape(2, 2, 4), dim=-1)  # 2 images, 2 exits
        >>> loss = selfcon_loss(z_RED, torch.tensor([0, 1]), temperature=0.1)
        >>> round(loss.item(), 4)  # three orthogonal contrasts: log(3) x 0.1 / 0.07
        1.5694
    """
    _check_numbers(temperature=temperature, base_temperature=base_temperature, chunk_rows=chunk_rows)
    _check_shapes(z_RED, labels_B, num_views)
    weights = relative_weights(exit_weights, backbone_weight, num_exits=z_RED.shape[1])
    with torch.autocast(z_RED.device.type, enabled=False):
        anchors_RED = z_RED.to(torch.promote_types(z_RED.dtype, torch.float32))
        keys_NED = gather_rows(anchors_RED)
        _check_unit_norm(keys_NED, tolerance=1e-2 if z_RED.dtype.itemsize == 2 else 1e-3)
        class_N, mine = _classes(labels_B, num_views=num_views, num_rows=len(z_RED), device=z_RED.device)
        losses_E = torch.cat(
            [
                _shares_of_losses(
                    anchors_RED[:, exits],
                    keys_NED[:, contrast],
                    class_N,
                    mine=mine,
                    temperature=temperature,
                    chunk_rows=chunk_rows,
                )
                for exits, contrast in _groups(backbone_contrast, num_exits=z_RED.shape[1])
            ]
        )
        loss = (losses_E * losses_E.new_tensor(weights)).sum()
        return loss * (world_size() * temperature / base_temperature)


def _groups(backbone_contrast: str, *, num_exits: int) -> Iterator[tuple[slice, slice]]:
    """Yield exits, in order, whose anchors have the same contrast set, and the exits that it spans.

    The former are the first of the latter.
    """
    if backbone_contrast == "all":
        yield slice(0, num_exits), slice(0, num_exits)
    elif backbone_contrast == "backbone":
        yield slice(0, num_exits - 1), slice(0, num_exits)
        yield slice(num_exits - 1, num_exits), slice(num_exits - 1, num_exits)
    else:
        raise ConfigError("backbone_contrast", "all or backbone", backbone_contrast)


def _classes(
    labels_B: Tensor | None, *, num_views: int, num_rows: int, device: torch.device
) -> tuple[Tensor, slice]:
    """Return the class (0, 1, ...) of every row of all ranks, and the position of this rank's rows.

    Without labels each image is a separate class.
    """
    first = sum(row_counts(num_rows)[: rank()])
    if labels_B is None:
        labels_B = torch.arange(num_rows // num_views) + first // num_views
    labels_N = gather_rows_without_gradient(labels_B.to(device, torch.int64).repeat(num_views))
    # Checks the rows of all ranks, so that all ranks raise and none waits for the others.
    if (labels_N < 0).any():
        raise ConfigError("labels_B", "class numbers of at least 0", str(int(labels_N.min())))
    _, class_N = torch.unique(labels_N, return_inverse=True)
    return class_N, slice(first, first + num_rows)


def _shares_of_losses(
    anchors_RED: Tensor,
    keys_NFD: Tensor,
    class_N: Tensor,
    *,
    mine: slice,
    temperature: float,
    chunk_rows: int | None,
) -> Tensor:
    """Return this rank's part of L_e for each exit of the anchors, which are the first exits of the keys."""
    num_exits, num_key_exits = anchors_RED.shape[1], keys_NFD.shape[1]
    class_R, keys_KD = class_N[mine], keys_NFD.flatten(0, 1)
    row_R = torch.arange(mine.start, mine.stop, device=class_N.device)
    exit_E = torch.arange(num_exits, device=class_N.device)
    log_sum_exp_A = _LogSumExpOverOthers.apply(
        anchors_RED.flatten(0, 1) / temperature,
        keys_KD,
        (row_R[:, None] * num_key_exits + exit_E).flatten(),
        chunk_rows or max(1, _LOGITS_PER_CHUNK // max(1, len(keys_KD))),
    )
    num_positives_C = class_N.bincount() * num_key_exits - 1
    num_positives_R1 = num_positives_C[class_R, None]
    # sum_p z_a . z_p = z_a . (the sum of a's class) - z_a . z_a needs no mask of rows x rows.
    sums_CD = torch.zeros_like(keys_NFD[: len(num_positives_C), 0]).index_add(0, class_N, keys_NFD.sum(dim=1))
    sums_RE = (anchors_RED * sums_CD[class_R, None]).sum(dim=2) - anchors_RED.square().sum(dim=2)
    mean_logits_RE = sums_RE / num_positives_R1.clamp(min=1) / temperature
    losses_RE = cast(Tensor, log_sum_exp_A).view_as(mean_logits_RE) - mean_logits_RE
    num_valid = (num_positives_C[class_N] > 0).sum()
    return losses_RE.where(num_positives_R1 > 0, 0).sum(dim=0) / num_valid.clamp(min=1)


class _LogSumExpOverOthers(torch.autograd.Function):
    """log sum_k exp(x_a . z_k) over all keys k except the anchor itself, 0 if there is no other.

    Only the logits of one chunk of anchors are in memory at a time, also in the backward pass.
    """

    @staticmethod
    def forward(ctx: Any, x_AD: Tensor, keys_KD: Tensor, own_A: Tensor, chunk_rows: int) -> Tensor:
        log_sum_exp_A = x_AD.new_empty(len(x_AD))
        for start in range(0, len(x_AD), chunk_rows):
            chunk = slice(start, start + chunk_rows)
            log_sum_exp_A[chunk] = _logits(x_AD[chunk], keys_KD, own_A[chunk]).logsumexp(dim=1)
        log_sum_exp_A.masked_fill_(log_sum_exp_A == -math.inf, 0)
        ctx.save_for_backward(x_AD, keys_KD, own_A, log_sum_exp_A)
        ctx.chunk_rows = chunk_rows
        return log_sum_exp_A

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_A: Tensor) -> tuple[Tensor, Tensor, None, None]:
        x_AD, keys_KD, own_A, log_sum_exp_A = ctx.saved_tensors
        grad_x_AD, grad_keys_KD = torch.empty_like(x_AD), torch.zeros_like(keys_KD)
        with torch.autocast(x_AD.device.type, enabled=False):
            for start in range(0, len(x_AD), ctx.chunk_rows):
                chunk = slice(start, start + ctx.chunk_rows)
                logits_QK = _logits(x_AD[chunk], keys_KD, own_A[chunk])
                softmax_QK = logits_QK.sub_(log_sum_exp_A[chunk, None]).exp_()
                share_QK = softmax_QK.mul_(grad_A[chunk, None])
                torch.mm(share_QK, keys_KD, out=grad_x_AD[chunk])
                grad_keys_KD.addmm_(share_QK.T, x_AD[chunk])
        return grad_x_AD, grad_keys_KD, None, None


def _logits(x_AD: Tensor, keys_KD: Tensor, own_A: Tensor) -> Tensor:
    return (x_AD @ keys_KD.T).scatter_(1, own_A[:, None], -math.inf)


def _check_numbers(*, temperature: float, base_temperature: float, chunk_rows: int | None) -> None:
    for name, value in (("temperature", temperature), ("base_temperature", base_temperature)):
        if not 0 < value < math.inf:
            raise ConfigError(name, "a finite number above 0", str(value))
    if chunk_rows is not None and not chunk_rows >= 1:
        raise ConfigError("chunk_rows", "a number of anchors of at least 1", str(chunk_rows))


def _check_shapes(z_RED: Tensor, labels_B: Tensor | None, num_views: int) -> None:
    if not (z_RED.dim() == 3 and z_RED.shape[1] >= 1 and z_RED.is_floating_point()):
        raise ConfigError("z_RED", "floating-point rows x exits x dimensions", _described(z_RED))
    if not (num_views >= 1 and len(z_RED) % num_views == 0):
        raise ConfigError("num_views", f"a divisor of the {len(z_RED)} rows of z_RED", str(num_views))
    num_images = len(z_RED) // num_views
    if labels_B is None:
        return
    if labels_B.shape != (num_images,) or labels_B.dtype not in _INTEGERS:
        raise ConfigError("labels_B", f"an integer for each of {num_images} images", _described(labels_B))


_INTEGERS = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def _described(x: Tensor) -> str:
    return f"{x.dtype} of shape {list(x.shape)}"


def _check_unit_norm(keys_NED: Tensor, *, tolerance: float) -> None:
    """Check the rows of all ranks, so that all ranks raise and none waits for the others. NaN is valid."""
    norm_NE = keys_NED.detach().norm(dim=2)
    off_NE = (norm_NE - 1).abs() > tolerance
    if off_NE.any():
        got = f"a norm of {norm_NE[off_NE][0].item():.6g}"
        raise ConfigError("z_RED", f"L2-normalised projections, to within {tolerance:g}", got)
