"""Normalisation layers, exact for any distribution of the batch over ranks.

Shape letters: R rows of this rank, C channels, X the two further dimensions of images or none, W ranks.
"""

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm

from selfcon.config import Normalization
from selfcon.distributed import rank, reduce_sum, world_size

# Creates a layer for a number of channels.
NormalizationLayer = Callable[[int], nn.Module]

# 32 groups were best in the paper of GroupNorm (Wu & He 2018, table 3).
_MOST_GROUPS = 32


def normalization_layer(name: Normalization) -> NormalizationLayer:
    """Return the layer class of `name`, for images (R, C, H, W).

    `batch`: mean and variance of the batch of all ranks. `group`: those of each image, with the largest
    number of groups that divides 32 and C, at least two channels each. `frozen`: stored statistics that
    training does not change.
    """
    if name == "batch":
        return BatchNorm
    if name == "group":
        return _group_norm
    # Importing torchvision takes as long as torch; most runs do not need it.
    from torchvision.ops import FrozenBatchNorm2d

    frozen: NormalizationLayer = FrozenBatchNorm2d
    return frozen


class BatchNorm(_BatchNorm):
    """Batch normalisation of (R, C) or (R, C, H, W) over the rows of all ranks together.

    In a single process, and in evaluation, it equals `torch.nn.BatchNorm1d` or `2d`, also in its state dict.
    In training with a process group it computes what a single process would for the entire batch, on every
    device (`torch.nn.SyncBatchNorm` does not support CPU tensors); ranks may have different numbers of rows.
    """

    def __init__(self, num_channels: int) -> None:
        super().__init__(num_channels)

    def forward(self, x_RCX: Tensor) -> Tensor:
        if not self.training or world_size() == 1:
            return super().forward(x_RCX)
        y_RCX, mean_C, variance_C, count = _normalize_over_ranks(x_RCX, self.weight, self.bias, self.eps)
        self._update_running_statistics(mean_C, variance_C * (count / (count - 1)))
        return y_RCX

    @torch.no_grad()
    def _update_running_statistics(self, mean_C: Tensor, unbiased_variance_C: Tensor) -> None:
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked += 1
        updates = (self.running_mean, mean_C), (self.running_var, unbiased_variance_C)
        for running_C, batch_C in updates:
            assert running_C is not None
            running_C.lerp_(batch_C, self.momentum)

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"expected rows x channels, got shape {list(input.shape)}")


class _NormalizeOverRanks(torch.autograd.Function):
    """Normalise this rank's rows by the mean and (biased) variance over the rows of all ranks.

    Returns the result, the mean, the variance, and the number of values per channel over all ranks. Computes
    in the dtype of the weights; saves only `x` for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any, x_RCX: Tensor, weight_C: Tensor, bias_C: Tensor, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        mean_C, variance_C, count = _statistics_over_ranks(x_RCX.to(weight_C.dtype))
        y_RCX = functional.batch_norm(x_RCX, mean_C, variance_C, weight_C, bias_C, eps=eps)
        ctx.save_for_backward(x_RCX, weight_C, mean_C, (variance_C + eps).rsqrt(), count)
        ctx.mark_non_differentiable(mean_C, variance_C, count)
        return y_RCX, mean_C, variance_C, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_RCX: Tensor, *_: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        x_RCX, weight_C, mean_C, inverse_std_C, count = ctx.saved_tensors
        others, shape = _other_dims(x_RCX), [1, -1] + [1] * (x_RCX.dim() - 2)
        grad_RCX = grad_RCX.to(weight_C.dtype)
        normal_RCX = (x_RCX - mean_C.view(shape)).mul_(inverse_std_C.view(shape))
        grad_weight_C, grad_bias_C = (grad_RCX * normal_RCX).sum(dim=others), grad_RCX.sum(dim=others)
        # Of the entire batch, because mean and variance depend on all rows.
        slope_C, level_C = reduce_sum(torch.stack([grad_weight_C, grad_bias_C])) / count
        grad_x_RCX = (grad_RCX - level_C.view(shape)).sub_(normal_RCX.mul_(slope_C.view(shape)))
        grad_x_RCX.mul_((weight_C * inverse_std_C).view(shape))
        return grad_x_RCX.to(x_RCX.dtype), grad_weight_C, grad_bias_C, None


# Communication is not traced by torch.compile.
_normalize_over_ranks: Callable[[Tensor, Tensor, Tensor, float], tuple[Tensor, Tensor, Tensor, Tensor]]
_normalize_over_ranks = torch.compiler.disable(_NormalizeOverRanks.apply)


def _statistics_over_ranks(x_RCX: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean, the (biased) variance and the number of values of each channel over all ranks.

    Each rank centres its values before they are combined (Chan et al. 1979), because sums of squares lose
    precision. One reduction has the statistics of all ranks.
    """
    num_values = x_RCX.numel() // x_RCX.shape[1]
    variance_C = mean_C = x_RCX.new_zeros(x_RCX.shape[1])
    if num_values:
        variance_C, mean_C = torch.var_mean(x_RCX, dim=_other_dims(x_RCX), correction=0)
    mine = torch.cat([mean_C.new_tensor([num_values]), mean_C, variance_C])
    all_ranks = reduce_sum(functional.pad(mine[None], (0, 0, rank(), world_size() - 1 - rank())))
    count_W1, mean_WC, variance_WC = all_ranks.split([1, len(mean_C), len(mean_C)], dim=1)
    share_W1 = count_W1 / count_W1.sum()
    mean_C = (share_W1 * mean_WC).sum(dim=0)
    variance_C = (share_W1 * (variance_WC + (mean_WC - mean_C).square())).sum(dim=0)
    return mean_C, variance_C, count_W1.sum()


def _other_dims(x_RCX: Tensor) -> list[int]:
    return [dim for dim in range(x_RCX.dim()) if dim != 1]


def _group_norm(num_channels: int) -> nn.GroupNorm:
    num_groups = math.gcd(_MOST_GROUPS, num_channels)
    # A group with one channel is constant on maps of one pixel, and amplifies rounding errors on few pixels.
    if num_groups == num_channels > 1:
        num_groups //= 2
    return nn.GroupNorm(num_groups, num_channels)
