"""Importance of each search parameter (PED-ANOVA)."""

import warnings
from collections.abc import Mapping
from typing import Any

from selfcon.values import shown
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.snapshot import Snapshot

MIN_TRIALS = 8  # too few trials give no meaningful shares
NUM_TOP, MIN_QUANTILE = 5, 0.1  # as recommended by PED-ANOVA's authors and Optuna


def parameter_importance(snapshot: Snapshot) -> dict[str, float]:
    """Return the share of each searched parameter, the largest first; they sum to 1.

    PED-ANOVA (Watanabe et al., IJCAI 2023) in Optuna's implementation, which handles conditional parameters:
    how much the distribution of a parameter among the best tenth of the trials, at least five, differs from
    that among all. PRUNED trials rank behind every COMPLETE one, by their last epoch, as for the sampler.
    Empty for fewer than `MIN_TRIALS` trials, or if all are equally good.
    """
    import optuna

    ended = ordered(snapshot)
    if len(ended) < MIN_TRIALS or len({_outcome(record) for record in ended}) < 2:
        return {}
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler())
    for rank, record in enumerate(ended):
        study.add_trial(_trial(record, snapshot.space, rank))
    quantile = max(MIN_QUANTILE, min(0.5, NUM_TOP / len(ended)))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # few trials in a branch: the small share shows it
        evaluator = optuna.importance.PedAnovaImportanceEvaluator(target_quantile=quantile)
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def ordered(snapshot: Snapshot) -> list[TrialRecord]:
    """Return the COMPLETE and PRUNED trials, best first."""
    sign, metric = (-1 if snapshot.maximize else 1), snapshot.objective.metric

    def last_value(record: TrialRecord) -> float:
        series = record.series(metric)
        return sign * series[-1][1] if series else 0.0

    pruned = [record for record in snapshot.counted if record.state == State.PRUNED]
    behind = sorted(pruned, key=lambda record: (-record.last_epoch, last_value(record), record.number))
    return [*snapshot.complete, *behind]


def _outcome(record: TrialRecord) -> tuple[float | None, int]:
    return record.value, record.last_epoch


def _trial(record: TrialRecord, space: Mapping[str, Any], rank: int) -> Any:
    """The trial for Optuna's importance evaluator, with its rank as the value to minimise."""
    import optuna

    parameters, distributions = {}, {}
    for name, value in record.parameters.items():
        parameters[name], distributions[name] = _with_distribution(value, space[name])
    return optuna.trial.create_trial(params=parameters, distributions=distributions, value=float(rank))


def _with_distribution(value: Any, branches: Any) -> tuple[Any, Any]:
    """A value and its distribution: the widest range of the branches, or all their choices."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if any("choices" in branch for branch in branches):
        choices = {shown(choice) for branch in branches for choice in branch.get("choices", ())}
        return shown(value), CategoricalDistribution(sorted(choices | {shown(value)}))
    low, high = min(branch["low"] for branch in branches), max(branch["high"] for branch in branches)
    is_log = low > 0 and all(branch.get("log") for branch in branches)
    distribution = IntDistribution if isinstance(value, int) else FloatDistribution
    return value, distribution(low, high, log=is_log)
