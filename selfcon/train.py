"""One training run: the epoch loop.

`fit` is the same code in a plain process, in one of several processes of a group, and under Ray: it uses the
process group it finds and never starts or ends one.

Shape letters, of this rank's share of a batch: B images, V views, R rows = V x B, C channels, H height,
W width, E exits with the backbone last, X dimensions of a projection or classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from selfcon.checkpoint import load_checkpoint, save_checkpoint
from selfcon.collapse import collapsed_loss_of, is_collapsed
from selfcon.config import TrainConfig
from selfcon.data.batches import epoch_batches
from selfcon.distributed import broadcast_object, reduce_sum, world_size
from selfcon.errors import CheckpointError, ConfigError, NonFiniteLossError
from selfcon.evaluate import evaluate_encoder
from selfcon.model import SelfConEncoder
from selfcon.objective import training_loss
from selfcon.optim import learning_rate_at
from selfcon.run import Run, start_run


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """An epoch is over; `epoch` 0 is the untrained network.

    `metrics` are the same on every rank. `save(directory)` writes a checkpoint of this moment; one rank may
    call it, before it returns from the report.
    """

    epoch: int
    metrics: dict[str, float]
    save: Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The encoder in evaluation mode, the metrics of the last epoch, and whether the features collapsed."""

    encoder: SelfConEncoder
    metrics: dict[str, float]
    collapsed: bool


def fit(
    config: TrainConfig, *, report: Callable[[EpochReport], None], resume_from: Path | None = None
) -> TrainResult:
    """Train an encoder as `config` says and return it.

    `report` is called on every rank, epoch by epoch, 0 first; after a resume first with the epoch of the
    checkpoint, then with the next. Its metrics: from epoch 1 on `train/loss` (mean over the steps),
    `train/learning_rate` (of the last step) and `cost/images_per_second` (all ranks, without evaluation);
    `val/...` in epoch 0, each multiple of `evaluate.every_epochs` and the last; the other `cost/...` always.

    The same configuration gives the same bits on the same machine with the same number of threads, also when
    it was stopped after any epoch and resumed. Several ranks compute what one would.

    Raises `ConfigError` for a data set that cannot be used, `CheckpointError` for a checkpoint that is
    damaged or of another configuration, and `NonFiniteLossError` on every rank.
    """
    run = start_run(config, resumed=resume_from is not None)
    if resume_from is None:
        run.history.append(_untrained_epoch(run))
    else:
        run.restore(load_checkpoint(resume_from, config=config))
    report(_epoch_report(run))
    while run.epoch < config.optim.epochs:
        run.history.append(_trained_epoch(run, epoch=run.epoch + 1))
        report(_epoch_report(run))
    return TrainResult(
        encoder=run.encoder.eval(), metrics=dict(run.history[-1]), collapsed=_has_collapsed(run)
    )


def _epoch_report(run: Run) -> EpochReport:
    return EpochReport(
        epoch=run.epoch, metrics=dict(run.history[-1]), save=partial(_save, run=run, epoch=run.epoch)
    )


def _save(directory: Path, *, run: Run, epoch: int) -> None:
    if epoch != run.epoch:
        raise CheckpointError(f"{directory}: epoch {epoch} can be saved only while it is reported")
    save_checkpoint(directory, run.state(), config=run.config)


def _untrained_epoch(run: Run) -> dict[str, float]:
    started = run.costs.now()
    accuracies = evaluate_encoder(run.encoder, run.dataset, config=run.config, split="validation")
    run.costs.add(seconds=run.costs.now() - started, num_views=0)
    return broadcast_object(accuracies | run.costs.metrics())


def _trained_epoch(run: Run, *, epoch: int) -> dict[str, float]:
    optim = run.config.optim
    num_images = run.steps_per_epoch * optim.global_batch_size
    started = run.costs.now()
    metrics = _train(run, epoch=epoch)
    metrics["cost/images_per_second"] = num_images / (run.costs.now() - started)
    if epoch % run.config.evaluate.every_epochs == 0 or epoch == optim.epochs:
        metrics |= evaluate_encoder(run.encoder, run.dataset, config=run.config, split="validation")
    num_views = num_images * run.config.data.num_views
    run.costs.add(seconds=run.costs.now() - started, num_views=num_views)
    # Clocks differ between ranks: all report what the first one measured.
    return broadcast_object(metrics | run.costs.metrics())


def _train(run: Run, *, epoch: int) -> dict[str, float]:
    """Take every step of one epoch; return the mean loss over them and the last learning rate."""
    run.network.train()
    losses: list[float] = []
    learning_rate = math.nan
    batches = epoch_batches(
        run.dataset, config=run.config, epoch=epoch - 1, device=run.device, dtype=run.dtype
    )
    for step, (images_RCHW, labels_B) in enumerate(batches):
        learning_rate = learning_rate_at(
            run.config.optim, epoch=epoch - 1, step=step, steps_per_epoch=run.steps_per_epoch
        )
        for group in run.optimizer.param_groups:
            group["lr"] = learning_rate
        losses.append(train_step(run, images_RCHW, labels_B, place=f"epoch {epoch}, step {step + 1}"))
    return {"train/loss": math.fsum(losses) / len(losses), "train/learning_rate": learning_rate}


def train_step(run: Run, images_RCHW: Tensor, labels_B: Tensor, *, place: str) -> float:
    """Take one step of descent and return the loss of the global batch, the same on every rank.

    Raises `NonFiniteLossError`, which begins with `place`, on every rank alike.
    """
    outputs_REX = run.network(images_RCHW)
    try:
        loss = training_loss(outputs_REX, labels_B, config=run.config)
    except ConfigError as error:
        # The encoder normalises them; where its numbers overflow that fails, on every rank alike.
        if error.key != "z_RED":
            raise
        raise NonFiniteLossError(f"{place}: the projections have overflowed, with {error.got}") from error
    run.optimizer.zero_grad()
    loss.backward()
    run.optimizer.step()
    mean = reduce_sum(loss.detach()).item() / world_size()
    if not math.isfinite(mean):
        raise NonFiniteLossError(f"{place}: the loss is {mean}")
    return mean


def _has_collapsed(run: Run) -> bool:
    return is_collapsed(
        [metrics["train/loss"] for metrics in run.history[1:]],
        collapsed_loss=collapsed_loss_of(run.config),
        warmup_epochs=run.config.optim.warmup_epochs,
        top1=run.history[-1]["val/top1"],
        untrained_top1=run.history[0]["val/top1"],
    )
