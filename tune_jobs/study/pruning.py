"""Which trials end early: a pure function of the epochs in the study, so that it survives any crash.

Asked twice about the same report, before or after a restart, the answer is the same: a trial is compared only
with what was recorded no later than its own newest epoch, and no two epochs were recorded at the same time.
With several objectives the first one decides.
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

# As optuna.pruners.MedianPruner has it (n_startup_trials): fewer say little about what is usual.
MIN_FINISHED = 5


def prune_reason(
    record: TrialRecord, records: Sequence[TrialRecord], *, pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Return why a running trial is to end after its newest epoch, None when it goes on.

    `records` are those of the whole search, its own included.
    """
    if has_collapsed(record):
        return Reason.COLLAPSED
    return _RULES[pruner.kind](record, records, pruner, objective)


# --- successive halving and hyperband ----------------------------------------------------------------------


def rungs(pruner: PrunerSettings, *, epochs: int, bracket: int = 0) -> tuple[int, ...]:
    """Return the epochs after which a trial is judged: min_epochs x reduction_factor^k, below `epochs`.

    k begins at the bracket: 0 but for hyperband. Median has no rungs.
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
    """Return the hyperband bracket of a trial, 0 for any other pruner: its first rung is later by that much.

    With K rungs there are K + 1 brackets, as in Hyperband (Li et al. 2018, arXiv:1603.06560, algorithm 1,
    with s = K - bracket): from successive halving over all rungs to none at all. There a bracket starts with
    ceil((K + 1) / (s + 1) x factor^s) trials; here a hash of the number draws the bracket with probabilities
    in these proportions, since nobody knows how many trials there will be. And no trial waits for the others
    of its rung (`survives`).
    """
    if pruner.kind != "hyperband":
        return 0
    most = len(rungs(pruner, epochs=epochs))
    sizes = [math.ceil((most + 1) / (s + 1) * pruner.reduction_factor**s) for s in range(most, -1, -1)]
    drawn = int.from_bytes(hashlib.sha256(str(number).encode()).digest()[:8]) % sum(sizes)
    bracket = 0
    while drawn >= sizes[bracket]:
        drawn -= sizes[bracket]
        bracket += 1
    return bracket


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


def _behind_at_a_rung(
    record: TrialRecord, records: Sequence[TrialRecord], pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Judge the rung that the newest epoch reached, among the trials of the same bracket."""
    bracket = _bracket(record, pruner)
    for rung in rungs(pruner, epochs=record.total_epochs, bracket=bracket):
        own = rung_value(record, rung, metric=objective.metric)
        if own is None or own.timestamp_ms != record.epochs[-1].timestamp_ms:
            continue  # not there yet, or judged when it was
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


def _behind_the_median(
    record: TrialRecord, records: Sequence[TrialRecord], pruner: PrunerSettings, objective: Objective
) -> Reason | None:
    """Vizier's median stopping rule (Golovin et al. 2017, doi:10.1145/3097983.3098043, section 3.2.2).

    With v_j(i) the objective of trial j in epoch i, to be maximised, and F the trials that had reported their
    last epoch when `record` reported epoch s, it ends when |F| >= 5, s >= min_epochs and

        max_{i <= s} v(i)  <  median over j in F of  mean_{i <= s} v_j(i)

    Epoch 0, the untrained network, is left out.
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
    """Whether a trial had reported its last epoch at a time; a pruned one never does."""
    newest = record.epochs[-1] if record.epochs else None
    return newest is not None and newest.epoch >= record.total_epochs and newest.timestamp_ms < timestamp_ms


def _running_average(record: TrialRecord, epoch: int, *, metric: str) -> float | None:
    """The mean of the metric over the trained epochs up to one, None where none of them reported it."""
    values = [e.metrics[metric] for e in record.epochs if 0 < e.epoch <= epoch and metric in e.metrics]
    return sum(values) / len(values) if values else None


_Rule = Callable[[TrialRecord, Sequence[TrialRecord], PrunerSettings, Objective], Reason | None]
_RULES: Mapping[str, _Rule] = {
    "none": lambda *_: None,
    "median": _behind_the_median,
    "successive_halving": _behind_at_a_rung,
    "hyperband": _behind_at_a_rung,
}


# --- collapse ----------------------------------------------------------------------------------------------


def has_collapsed(record: TrialRecord) -> bool:
    """Return whether the newest losses say that the features fell onto one point (selfcon.collapse)."""
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
