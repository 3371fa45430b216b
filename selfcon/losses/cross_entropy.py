"""Cross-entropy at every exit: the baseline of the contrastive objectives.

Shape letters: B images, V views, R rows of this rank = V x B with view 0's images first, E exits with the
backbone last, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from selfcon.distributed import row_counts, world_size
from selfcon.errors import ConfigError
from selfcon.losses.exit_weights import relative_weights


def exit_cross_entropy(
    logits_REC: Tensor,
    labels_B: Tensor,
    *,
    num_views: int = 1,
    exit_weights: float | Sequence[float] | None = None,
    backbone_weight: float = 1.0,
) -> Tensor:
    """Return sum_e w_e mean_r -log softmax(logits_re)[label_r] / sum_e w_e, a scalar to minimise.

    The mean is over the rows of all ranks. Without exits it is cross-entropy on the backbone; with exits it
    is the joint loss of multi-exit classifiers (Teerapittayanon et al. 2016, BranchyNet, eq. 3).
    `exit_weights` and `backbone_weight` are those of `selfcon.losses.contrastive.selfcon_loss`.

    In a process group every rank calls it with its own images; their number may differ between ranks. It
    returns this rank's share times the world size: the mean over the ranks is the loss of the global batch,
    and the mean of the ranks' gradients is its gradient. An empty batch has loss 0.

    The arithmetic is float32, or float64 for float64 logits, also within autocast. Raises `ConfigError` for
    arguments that do not fit together.
    """
    num_rows, num_exits, _ = logits_REC.shape
    if not (num_views >= 1 and labels_B.shape == (num_rows // num_views,) and num_rows % num_views == 0):
        expected = f"a class for each of {num_rows} / num_views images"
        raise ConfigError("labels_B", expected, f"shape {list(labels_B.shape)} with {num_views} views")
    weights = relative_weights(exit_weights, backbone_weight, num_exits=num_exits)
    num_rows_of_all = max(1, sum(row_counts(num_rows)))
    with torch.autocast(logits_REC.device.type, enabled=False):
        logits_RCE = logits_REC.to(torch.promote_types(logits_REC.dtype, torch.float32)).transpose(1, 2)
        labels_RE = labels_B.to(torch.int64).repeat(num_views)[:, None].expand(-1, num_exits)
        losses_RE = functional.cross_entropy(logits_RCE, labels_RE, reduction="none")
        loss = (losses_RE.sum(dim=0) * losses_RE.new_tensor(weights)).sum()
        return loss * (world_size() / num_rows_of_all)
