"""Batches of an epoch: the same pixels for any number of workers, and after a resume.

Shape letters: B images of a batch, V views, R rows = V x B with view 0's images first, C channels, H, W.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from selfcon.config import TrainConfig
from selfcon.data.augment import Augmentation, normalise
from selfcon.data.dataset import ImageDataset, Split
from selfcon.data.draws import permutation
from selfcon.distributed import split_range, world_size
from selfcon.errors import ConfigError


def num_steps(num_train: int, global_batch_size: int) -> int:
    """Return the number of steps of an epoch; an incomplete last batch is dropped, so that contrast sets keep
    their size.

    The order changes with the epoch, so other images are dropped. Raises `ConfigError` if a batch is larger
    than the training split.
    """
    if not global_batch_size <= num_train:
        raise ConfigError(
            "optim.global_batch_size", f"at most the {num_train} training images", str(global_batch_size)
        )
    return num_train // global_batch_size


def epoch_batches(
    dataset: ImageDataset,
    *,
    config: TrainConfig,
    epoch: int,
    device: torch.device,
    dtype: torch.dtype,
    first_step: int = 0,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Return an iterator over an epoch's (images_RCHW, labels_B): this rank's share of each global batch.

    Global batches are consecutive parts of the permutation of the epoch; in rank order, the contiguous shares
    are the batch. Images are augmented and normalised, of `dtype`, on `device`. `epoch` and `first_step`
    count from 0; batches before `first_step` are skipped.

    Raises `ConfigError` if the global batch is larger than the training split, or has fewer images than there
    are ranks.
    """
    global_batch_size = config.optim.global_batch_size
    if not global_batch_size >= world_size():
        expected = f"at least {world_size()}, an image for each worker"
        raise ConfigError("optim.global_batch_size", expected, str(global_batch_size))
    steps = num_steps(len(dataset.train), global_batch_size)
    order_SG = permutation(config.seed, epoch, len(dataset.train))[: steps * global_batch_size].view(
        steps, -1
    )
    share = split_range(global_batch_size)
    augmentation = Augmentation(
        kind=config.data.augmentation,
        seed=config.seed,
        epoch=epoch,
        num_views=config.data.num_views,
        dtype=dtype,
    )
    shares = order_SG[first_step:, share.start : share.stop].unbind()
    return _batches(dataset, shares, augmentation, device=device)


def evaluation_batches(
    split: Split,
    share: range,
    *,
    batch_size: int,
    mean: tuple[float, float, float],
    std: tuple[float, float, float],
    device: torch.device,
    dtype: torch.dtype,
) -> Iterator[Tensor]:
    """Yield a contiguous share of `split` in order, (B, C, H, W): normalised, without augmentation.

    Of `dtype`, on `device`; the last batch may be smaller than `batch_size`.
    """
    indices_N = torch.arange(share.start, share.stop)
    for images_BCHW in split.plain(indices_N.split(batch_size)):
        yield normalise(images_BCHW.to(device).to(dtype) / 255, mean=mean, std=std)


def _batches(
    dataset: ImageDataset, batches: Sequence[Tensor], augmentation: Augmentation, *, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    views = dataset.train.views(batches, augmentation, device=device)
    for indices_B, views_of_batch in zip(batches, views, strict=True):
        images_RCHW = normalise(torch.cat(views_of_batch), mean=dataset.mean, std=dataset.std)
        yield images_RCHW, dataset.train.labels_N[indices_B].to(device)
