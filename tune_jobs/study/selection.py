"""Which of the finished trials are best: pure functions of their records."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tune_jobs.space.settings import Constraint, Objective
from tune_jobs.study.records import State, TrialRecord


def pareto_front(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the trials that no other one dominates, by number; with one objective the best and its equals.

    Only COMPLETE trials that keep every constraint are looked at. A trial dominates another when it is at
    least as good in every objective and better in one.
    """
    candidates = _feasible(records)
    costs = {record.number: _costs(record, objectives) for record in candidates}
    front: list[tuple[float, ...]] = []
    for cost in sorted(set(costs.values())):  # what dominates another one comes before it
        if not any(_dominates(other, cost) for other in front):
            front.append(cost)
    return [record for record in candidates if costs[record.number] in front]


def ranked(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the trials that may win, the best in the first objective first, the lower number on a tie.

    These are the COMPLETE ones that keep every constraint; with several objectives only the Pareto front.
    """
    found = _feasible(records) if len(objectives) == 1 else pareto_front(records, objectives)
    return sorted(found, key=lambda record: (_costs(record, objectives)[0], record.number))


@dataclass(frozen=True)
class Candidate:
    """A COMPLETE trial with the runs of its further seeds as far as they are; `num_seeds` are asked for."""

    trial: TrialRecord
    seeds: tuple[TrialRecord, ...]
    num_seeds: int

    @property
    def is_whole(self) -> bool:
        """Whether every seed is COMPLETE."""
        return len(self.values) == self.num_seeds

    @property
    def values(self) -> list[float]:
        """The first objective over the seeds that are COMPLETE, the trial's own first."""
        return [record.value for record in (self.trial, *self.seeds) if record.value is not None]

    @property
    def mean(self) -> float:
        """The mean of `values`."""
        return statistics.fmean(self.values)

    @property
    def standard_deviation(self) -> float | None:
        """The standard deviation of the sample of `values` (divisor n - 1); None for a single one."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def candidates_of(
    best: Sequence[TrialRecord], seeds: Sequence[TrialRecord], *, num_seeds: int
) -> list[Candidate]:
    """Return the best trials with the runs that confirm each, as far as so many seeds were asked for."""
    asked = [record for record in seeds if record.seed_index < num_seeds]
    return [
        Candidate(trial, tuple(s for s in asked if s.confirms == trial.number), num_seeds=num_seeds)
        for trial in best
    ]


def by_mean(candidates: Sequence[Candidate], *, objective: Objective) -> list[Candidate]:
    """Return the candidates, the best mean first, the lower number on a tie.

    One that lacks a seed, since it failed or is not trained yet, comes behind all that are whole: its mean
    leaves out the seeds that may be its worst.
    """
    sign = _sign(objective)
    return sorted(candidates, key=lambda one: (not one.is_whole, sign * one.mean, one.trial.number))


def violations(record: TrialRecord, constraints: Sequence[Constraint]) -> dict[str, float | None]:
    """Return by how much the newest epochs break each constraint, at most 0 where it is kept.

    A metric counts as it was last reported; None where it never was.
    """
    return {spelled(constraint): _violation(record, constraint) for constraint in constraints}


def spelled(constraint: Constraint) -> str:
    """Return a constraint in words, which name it in the study too."""
    if constraint.max is not None:
        return f"{constraint.metric} <= {constraint.max:g}"
    return f"{constraint.metric} >= {constraint.min:g}"


def _violation(record: TrialRecord, constraint: Constraint) -> float | None:
    values = [
        epoch.metrics[constraint.metric] for epoch in record.epochs if constraint.metric in epoch.metrics
    ]
    if not values:
        return None
    if constraint.max is not None:
        return values[-1] - constraint.max
    assert constraint.min is not None
    return constraint.min - values[-1]


def _costs(record: TrialRecord, objectives: Sequence[Objective]) -> tuple[float, ...]:
    """The values with the sign that makes less better."""
    pairs = zip(record.values, objectives, strict=True)
    return tuple(_sign(objective) * value for value, objective in pairs)


def _sign(objective: Objective) -> int:
    return -1 if objective.direction == "maximize" else 1


def _feasible(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.state == State.COMPLETE and record.feasible]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
