"""Pruners: pure functions of the epochs in the study, so that decisions are the same after a crash.

A trial is compared only with epochs recorded up to its own newest epoch, and no two epochs have the same
timestamp. With several objectives, the first one decides.
"""

import hashlib
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from selfcon.collapse import collapsed_loss_of, is_collapsed
from selfcon.config import TrainConfig
from tune_jobs.space.settings import Objective, PrunerSettings
from tune_jobs.study.records import Reason, TrialRecord

# The default of optuna.pruners.MedianPruner (n_startup_trials): the median of fewer trials is too noisy.
MIN_FINISHED = 5


def prune_reason(
    record: TrialRecord, records: Sequence[TrialRecord], *, pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Return why a running trial is pruned after its newest epoch, None if it continues.

    `records` are all records of the search, including its own.
    """
    if has_collapsed(record):
        return Reason.COLLAPSED
    return _RULES[pruner.kind](record, records, pruner, objective)


# --- successive halving and hyperband ----------------------------------------------------------------------


def rungs(pruner: PrunerSettings, *, epochs: int, bracket: int = 0) -> tuple[int, ...]:
    """Return the rungs of a trial: the epochs min_epochs x reduction_factor^k below `epochs`.

    k starts at the bracket, which is 0 except for hyperband. The median pruner has no rungs.
    """
    if pruner.kind not in ("successive_halving", "hyperband"):
        return ()
    found: list[int] = []
    rung = pruner.min_epochs * pruner.reduction_factor**bracket
    while rung < epochs:
        found.append(rung)
        rung *= pruner.reduction_factor
    return tuple(found)


def bracket_of(number: int, *, pruner: PrunerSettings, epochs: int) -> int:
    """Return the hyperband bracket of a trial: the number of rungs that it skips. 0 for other pruners.

    With K rungs there are K + 1 brackets, as in Hyperband (Li et al. 2018, arXiv:1603.06560, algorithm 1,
    with s = K - bracket): from successive halving over all rungs to no pruning. In the paper a bracket starts
    with ceil((K + 1) / (s + 1) x factor^s) trials. Here the number of trials is not known beforehand, so a
    hash of the trial number selects the bracket with probabilities in these proportions. Trials do not wait
    for the others of their rung (`survives`).
    """
    if pruner.kind != "hyperband":
        return 0
    max_bracket = len(rungs(pruner, epochs=epochs))
    factor = pruner.reduction_factor
    sizes = [math.ceil((max_bracket + 1) / (s + 1) * factor**s) for s in range(max_bracket, -1, -1)]
    position = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8]) % sum(sizes)
    bracket = 0
    while position >= sizes[bracket]:
        position -= sizes[bracket]
        bracket += 1
    return bracket


@dataclass(frozen=True, order=True)
class RungValue:
    """Value of a trial at a rung; ordered by timestamp, then by trial number."""

    timestamp_ms: int
    number: int
    value: float


def rung_value(record: TrialRecord, rung: int, *, metric: str) -> RungValue | None:
    """Return the metric of the first epoch at or after the rung that reported it; None if there is none
    yet."""
    for epoch in record.epochs:
        if epoch.epoch >= rung and metric in epoch.metrics:
            return RungValue(epoch.timestamp_ms, record.number, epoch.metrics[metric])
    return None


def survives(own: RungValue, recorded: Sequence[RungValue], *, reduction_factor: int, maximize: bool) -> bool:
    """Return whether a trial continues after a rung (asynchronous successive halving, arXiv:1810.05934).

    `recorded` has all values of the rung, including the trial's own; later ones are ignored. A trial
    continues if it is among the best 1/reduction_factor of them (at least one), including ties with the last
    of these.
    """
    competing = sorted((item.value for item in recorded if item <= own), reverse=maximize)
    threshold = competing[max(1, len(competing) // reduction_factor) - 1]
    return own.value >= threshold if maximize else own.value <= threshold


def _rung_rule(
    record: TrialRecord, records: Sequence[TrialRecord], pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Asynchronous successive halving among the trials of the same bracket."""
    bracket = _bracket(record, pruner)
    for rung in rungs(pruner, epochs=record.total_epochs, bracket=bracket):
        own = rung_value(record, rung, metric=objective.metric)
        if own is None or own.timestamp_ms != record.epochs[-1].timestamp_ms:
            continue  # not reached yet, or decided before
        others = (other for other in records if other.epochs and _bracket(other, pruner) == bracket)
        found = (rung_value(other, rung, metric=objective.metric) for other in others)
        values = [value for value in found if value is not None]
        maximize = objective.direction == "maximize"
        if not survives(own, values, reduction_factor=pruner.reduction_factor, maximize=maximize):
            return Reason.RUNG
    return None


def _bracket(record: TrialRecord, pruner: PrunerSettings) -> int:
    return bracket_of(record.number, pruner=pruner, epochs=record.total_epochs)


# --- median ------------------------------------------------------------------------------------------------


def _median_rule(
    record: TrialRecord, records: Sequence[TrialRecord], pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Vizier's median stopping rule (Golovin et al. 2017, doi:10.1145/3097983.3098043, section 3.2.2).

    Let v_j(i) be the objective (maximised) of trial j in epoch i, and F the trials that had reported their
    last epoch when `record` reported epoch s. The trial is pruned if |F| >= 5, s >= min_epochs and

        max_{i <= s} v(i)  <  median over j in F of  mean_{i <= s} v_j(i)

    Epoch 0, the untrained network, is ignored.
    """
    series = record.series(objective.metric)
    epoch = record.last_epoch
    if epoch < pruner.min_epochs or epoch >= record.total_epochs or not series:
        return None
    sign = 1 if objective.direction == "maximize" else -1
    now_ms = record.epochs[-1].timestamp_ms
    finished = [other for other in records if _finished_before(other, now_ms)]
    found = (_running_average(other, epoch, metric=objective.metric) for other in finished)
    averages = [sign * average for average in found if average is not None]
    best = max(sign * value for _, value in series)
    if len(averages) >= MIN_FINISHED and best < statistics.median(averages):
        return Reason.MEDIAN
    return None


def _finished_before(record: TrialRecord, timestamp_ms: int) -> bool:
    """Whether a trial had reported its last epoch before a time; false for pruned trials."""
    newest = record.epochs[-1] if record.epochs else None
    return newest is not None and newest.epoch >= record.total_epochs and newest.timestamp_ms < timestamp_ms


def _running_average(record: TrialRecord, epoch: int, *, metric: str) -> float | None:
    """Mean of the metric over the epochs 1 to `epoch`; None if none of them reported it."""
    values = [e.metrics[metric] for e in record.epochs if 0 < e.epoch <= epoch and metric in e.metrics]
    return sum(values) / len(values) if values else None


_Rule = Callable[[TrialRecord, Sequence[TrialRecord], PrunerSettings, Objective], Reason | None]
_RULES: Mapping[str, _Rule] = {
    "none": lambda *_: None,
    "median": _median_rule,
    "successive_halving": _rung_rule,
    "hyperband": _rung_rule,
}


# --- collapse ----------------------------------------------------------------------------------------------


def has_collapsed(record: TrialRecord) -> bool:
    """Return whether the newest losses indicate that the features collapsed (selfcon.collapse)."""
    assert record.config is not None
    top1 = [value for _, value in record.series("val/top1")]
    untrained = [e.metrics["val/top1"] for e in record.epochs if e.epoch == 0 and "val/top1" in e.metrics]
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
