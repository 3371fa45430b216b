"""Which trials end early: a pure function of what the study holds, so that it survives any crash.

Asked twice about the same report, before or after a restart, the answer is the same: a trial competes at a
rung only with the values that were recorded there no later than its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from selfcon.collapse import collapsed_loss_of, is_collapsed
from selfcon.config import TrainConfig
from tune_jobs.records import Reason, TrialRecord
from tune_jobs.space.settings import Objective, PrunerSettings


def why_pruned(
    record: TrialRecord, records: Sequence[TrialRecord], *, pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Return why a running trial is to end after its newest epoch, None when it goes on.

    `records` are those of the whole search, its own included.
    """
    if has_collapsed(record):
        return Reason.COLLAPSED
    for rung in rungs(pruner, epochs=record.total_epochs):
        own = rung_value(record, rung, metric=objective.metric)
        if own is None:
            break
        found = (rung_value(other, rung, metric=objective.metric) for other in records)
        values = [value for value in found if value is not None]
        maximize = objective.direction == "maximize"
        if not survives(own, values, reduction_factor=pruner.reduction_factor, maximize=maximize):
            return Reason.RUNG
    return None


def rungs(pruner: PrunerSettings, *, epochs: int) -> tuple[int, ...]:
    """Return the epochs after which a trial is judged: min_epochs x reduction_factor^k, below `epochs`."""
    if pruner.kind == "none":
        return ()
    found: list[int] = []
    rung = pruner.min_epochs
    while rung < epochs:
        found.append(rung)
        rung *= pruner.reduction_factor
    return tuple(found)


@dataclass(frozen=True, order=True)
class RungValue:
    """What a trial reached at a rung, ordered by when it was recorded, then by number."""

    timestamp_ms: int
    number: int
    value: float


def rung_value(record: TrialRecord, rung: int, *, metric: str) -> RungValue | None:
    """Return the metric in the first epoch at or after the rung that has it, None before that epoch."""
    for epoch in record.epochs:
        if epoch.epoch >= rung and metric in epoch.metrics:
            return RungValue(epoch.timestamp_ms, record.number, epoch.metrics[metric])
    return None


def survives(own: RungValue, recorded: Sequence[RungValue], *, reduction_factor: int, maximize: bool) -> bool:
    """Return whether a trial goes on after a rung (asynchronous successive halving, arXiv:1810.05934).

    `recorded` holds all values of that rung, the trial's own included; those recorded later are left out. A
    trial goes on when it is among the best 1/reduction_factor of them, at least among the best one, ties with
    the last of these included.
    """
    competing = sorted((item.value for item in recorded if item <= own), reverse=maximize)
    threshold = competing[max(1, len(competing) // reduction_factor) - 1]
    return own.value >= threshold if maximize else own.value <= threshold


def has_collapsed(record: TrialRecord) -> bool:
    """Return whether the newest losses say that the features fell onto one point (selfcon.collapse)."""
    assert record.config is not None
    top1 = [value for _, value in record.series("val/top1")]
    untrained = [epoch.metrics["val/top1"] for epoch in record.epochs if epoch.epoch == 0]
    if not top1 or not untrained:
        return False
    config = TrainConfig.from_flat(record.config)
    return is_collapsed(
        [loss for _, loss in record.series("train/loss")],
        collapsed_loss=collapsed_loss_of(config),
        warmup_epochs=config.optim.warmup_epochs,
        top1=top1[-1],
        untrained_top1=untrained[0],
    )
