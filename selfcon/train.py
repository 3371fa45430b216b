"""The epoch loop of a training run.

`fit` is the same code in a single process, in a process group, and under Ray.

Shape letters, of this rank's share of a batch: B images, V views, R rows = V x B, C channels, H height,
W width, E exits with the backbone last, X dimensions of a projection or classes.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from torch import Tensor

from selfcon.callbacks import Callbacks, Progress
from selfcon.checkpoints.folder import load_checkpoint, save_checkpoint
from selfcon.checkpoints.state import TrainingState, checkpoint_payloads
from selfcon.config import TrainConfig
from selfcon.data.batches import epoch_batches
from selfcon.determinism import deterministic_kernels
from selfcon.distributed import broadcast_object, on_any_rank, rank, reduce_sum, world_size
from selfcon.errors import CheckpointError, ConfigError, NonFiniteLossError, TrainingStopped
from selfcon.evaluation.confusion import Confusion
from selfcon.evaluation.evaluate import evaluate_encoder
from selfcon.losses.objective import training_loss
from selfcon.model import SelfConEncoder
from selfcon.optim import learning_rate_at
from selfcon.precision import SMALLEST_SCALE, autocast
from selfcon.run import Run, start_run

NO_CALLBACKS = Callbacks()


@dataclass(frozen=True, kw_only=True)
class EpochReport:
    """Report of a finished epoch; `epoch` 0 is the untrained network.

    `step` is the number of finished steps of the next epoch: 0, except in the first report of a run resumed
    within an epoch. `metrics` are the same on every rank; `confusion` is None if the epoch was not evaluated.
    `save(directory)` writes a checkpoint, and `payloads()` returns the contents of its files; one rank may
    call them, before it returns from the report.
    """

    epoch: int
    step: int
    metrics: dict[str, float]
    confusion: Confusion | None
    save: Callable[[Path], None]
    payloads: Callable[[], dict[str, bytes]]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """The encoder in evaluation mode, and the metrics of the last epoch."""

    encoder: SelfConEncoder
    metrics: dict[str, float]


@deterministic_kernels()
def fit(
    config: TrainConfig,
    *,
    report: Callable[[EpochReport], None],
    resume_from: Path | TrainingState | None = None,
    callbacks: Callbacks = NO_CALLBACKS,
) -> TrainResult:
    """Train an encoder with the settings of `config`, and return it.

    The same configuration gives bit-identical results on the same machine with the same number of threads,
    also on a GPU, and also if the run was stopped after any epoch or step and resumed. Several ranks compute
    what a single process would. `fit` uses the process group it finds and never starts or ends one.

    Args:
        config: The training configuration.
        report: Called on every rank, once per epoch, from epoch 0 (the untrained network). A resumed run
            first reports the last finished epoch of the checkpoint. The metrics are `train/loss` (mean over
            the steps), `train/learning_rate` (of the last step) and `cost/images_per_second` (all ranks,
            without evaluation) from epoch 1 on; `val/...` in epoch 0, in each multiple of
            `evaluate.every_epochs` and in the last epoch; the other `cost/...` always.
        resume_from: A checkpoint folder, or the state of one, of the same configuration.
        callbacks: Progress of the run, and requests to stop it.

    Returns:
        The encoder in evaluation mode, on the device it was trained on, and the metrics of the last epoch.

    Raises:
        ConfigError: The data set cannot be used, or this machine does not support a setting.
        CheckpointError: The checkpoint is damaged or belongs to another configuration.
        NonFiniteLossError: The loss, the gradients or the features are not finite; raised on every rank.
        TrainingStopped: `callbacks.stop_requested` returned True on some rank.

    Example:
        >>> from selfcon import TrainConfig, fit
        >>> config = TrainConfig.from_mapping(
        ...     {
        ...         "data": {"dataset": "digits", "image_size": 8, "augmentation": "none"},
        ...         "model": {"width": 4, "projection_dim": 8},
        ...         "optim": {"epochs": 1, "learning_rate": 0.05},
        ...         "evaluate": {"probe_epochs": 1},
        ...     }
        ... )
        >>> epochs = []
        >>> result = fit(config, report=lambda report: epochs.append(report.epoch))
        >>> epochs
        [0, 1]
        >>> sorted(name for name in result.metrics if name.startswith("val/"))
        ['val/ensemble_top1', 'val/exit2_top1', 'val/knn_top1', 'val/top1']
    """
    run = start_run(config, resumed=resume_from is not None)
    callbacks.progress("before the first epoch")
    if resume_from is None:
        run.history.append(_untrained_epoch(run, progress=callbacks.progress))
    else:
        run.restore(_state_to_resume(resume_from, config))
    report(_epoch_report(run))
    while run.epoch < config.optim.epochs:
        run.history.append(_trained_epoch(run, epoch=run.epoch + 1, callbacks=callbacks))
        run.losses.clear()
        report(_epoch_report(run))
    return TrainResult(encoder=run.encoder.eval(), metrics=dict(run.history[-1]))


def _state_to_resume(stored: Path | TrainingState, config: TrainConfig) -> TrainingState:
    return stored if isinstance(stored, TrainingState) else load_checkpoint(stored, config=config)


def _epoch_report(run: Run) -> EpochReport:
    return EpochReport(
        epoch=run.epoch,
        step=len(run.losses),
        metrics=dict(run.history[-1]),
        confusion=run.confusions.get(run.epoch),
        save=partial(_save, run=run, step=run.step),
        payloads=partial(_payloads, run=run, step=run.step),
    )


def _stopped(run: Run) -> TrainingStopped:
    return TrainingStopped(
        epoch=run.epoch + 1,
        step=len(run.losses),
        save=partial(_save, run=run, step=run.step),
        payloads=partial(_payloads, run=run, step=run.step),
    )


def _save(directory: Path, *, run: Run, step: int) -> None:
    save_checkpoint(directory, _state_at(step, run), config=run.config)


def _payloads(*, run: Run, step: int) -> dict[str, bytes]:
    return checkpoint_payloads(_state_at(step, run), config=run.config)


def _state_at(step: int, run: Run) -> TrainingState:
    if step != run.step:
        raise CheckpointError(f"step {step} can no longer be saved: the run is at step {run.step}")
    return run.state()


def _untrained_epoch(run: Run, *, progress: Progress) -> dict[str, float]:
    started = run.costs.now()
    accuracies = _evaluated(run, epoch=0, progress=progress)
    run.costs.add(seconds=run.costs.now() - started, num_views=0)
    return broadcast_object(accuracies | run.costs.metrics())


def _trained_epoch(run: Run, *, epoch: int, callbacks: Callbacks) -> dict[str, float]:
    """Train the remaining steps of an epoch and return its metrics."""
    first_step, started = len(run.losses), run.costs.now()
    try:
        _train(run, epoch=epoch, callbacks=callbacks)
    except TrainingStopped:
        _count_costs(run, first_step=first_step, started=started)
        raise
    seconds = _count_costs(run, first_step=first_step, started=started)
    num_images = run.steps_per_epoch * run.config.optim.global_batch_size
    metrics = {
        "train/loss": math.fsum(run.losses) / run.steps_per_epoch,
        "train/learning_rate": _learning_rate(run, epoch=epoch, step=run.steps_per_epoch - 1),
        "cost/images_per_second": num_images / seconds,
    }
    if epoch % run.config.evaluate.every_epochs == 0 or epoch == run.config.optim.epochs:
        started = run.costs.now()
        metrics |= _evaluated(run, epoch=epoch, progress=_saving_when_stopped(run, callbacks))
        run.costs.add(seconds=run.costs.now() - started, num_views=0)
    run.costs.begin_epoch()
    # Clocks differ between ranks, so all report the times of rank 0.
    return broadcast_object(metrics | run.costs.metrics())


def _saving_when_stopped(run: Run, callbacks: Callbacks) -> Progress:
    """Return the progress callback of an evaluation, which saves the run, once, when a stop is requested."""
    progress, stop_requested, save = callbacks.progress, callbacks.stop_requested, callbacks.save_at_once
    if stop_requested is None or save is None or rank() != 0:
        return progress
    saved = False

    def report_and_save(place: str) -> None:
        nonlocal saved
        progress(place)
        if not saved and stop_requested():
            saved = True
            save(_stopped(run))

    return report_and_save


def _evaluated(run: Run, *, epoch: int, progress: Progress) -> dict[str, float]:
    found = evaluate_encoder(
        run.encoder,
        run.dataset,
        config=run.config,
        split="validation",
        progress=lambda place: progress(f"evaluation of epoch {epoch}, {place}"),
    )
    run.confusions.clear()
    if found.confusion is not None:
        run.confusions[epoch] = found.confusion
    return found.accuracies


def _count_costs(run: Run, *, first_step: int, started: float) -> float:
    """Add the newest steps and their time to the costs; return the time of the epoch's steps so far."""
    num_views = (
        (len(run.losses) - first_step) * run.config.optim.global_batch_size * run.config.data.num_views
    )
    return run.costs.add_steps(seconds=run.costs.now() - started, num_views=num_views)


def _train(run: Run, *, epoch: int, callbacks: Callbacks) -> None:
    """Train the remaining steps of an epoch, and append each loss to `run.losses`."""
    run.network.train()
    first_step = len(run.losses)
    batches = epoch_batches(
        run.dataset,
        config=run.config,
        epoch=epoch - 1,
        device=run.device,
        dtype=run.dtype,
        first_step=first_step,
    )
    for step, (images_RCHW, labels_B) in enumerate(batches, first_step):
        for group in run.optimizer.param_groups:
            group["lr"] = _learning_rate(run, epoch=epoch, step=step)
        place = f"epoch {epoch}, step {step + 1}"
        run.losses.append(train_step(run, images_RCHW, labels_B, place=place))
        callbacks.progress(place)
        if callbacks.stop_requested is not None and on_any_rank(callbacks.stop_requested()):
            raise _stopped(run)


def _learning_rate(run: Run, *, epoch: int, step: int) -> float:
    return learning_rate_at(run.config.optim, epoch=epoch - 1, step=step, steps_per_epoch=run.steps_per_epoch)


def train_step(run: Run, images_RCHW: Tensor, labels_B: Tensor, *, place: str) -> float:
    """Take one optimiser step and return the loss of the global batch, the same on every rank.

    In fp16, if gradients overflow, only the loss scale changes, on all ranks, because they have the same
    gradients. Raises `NonFiniteLossError`, whose message starts with `place`, on all ranks.
    """
    with autocast(run.device, run.config.optim.precision):
        outputs_REX = run.network(images_RCHW)
    try:
        loss = training_loss(outputs_REX, labels_B, config=run.config)
    except ConfigError as error:
        # The encoder normalises projections; if they overflow, this fails on all ranks.
        if error.key != "z_RED":
            raise
        raise NonFiniteLossError(f"{place}: the projections have overflowed, with {error.got}") from error
    run.optimizer.zero_grad()
    run.scaler.scale(loss).backward()
    run.scaler.step(run.optimizer)
    run.scaler.update()
    mean = reduce_sum(loss.detach()).item() / world_size()
    if not math.isfinite(mean):
        raise NonFiniteLossError(f"{place}: the loss is {mean}")
    if not run.scaler.get_scale() >= SMALLEST_SCALE:
        raise NonFiniteLossError(f"{place}: gradients overflow in fp16 at every scale of the loss")
    return mean
