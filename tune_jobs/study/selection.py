"""Selection of the best trials: pure functions of their records."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from tune_jobs.space.settings import Constraint, Objective
from tune_jobs.study.records import State, TrialRecord


def pareto_front(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the Pareto front by number; with one objective the best trial and its ties.

    Only COMPLETE trials that satisfy every constraint are considered. A trial dominates another if it is at
    least as good in every objective and better in one.
    """
    candidates = _feasible(records)
    costs = {record.number: _costs(record, objectives) for record in candidates}
    front: list[tuple[float, ...]] = []
    for cost in sorted(set(costs.values())):  # a dominating trial comes before those it dominates
        if not any(_dominates(other, cost) for other in front):
            front.append(cost)
    return [record for record in candidates if costs[record.number] in front]


def ranked(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the candidates for the winner, ordered by the first objective, then by number.

    These are the COMPLETE trials that satisfy every constraint; with several objectives only the Pareto
    front.
    """
    found = _feasible(records) if len(objectives) == 1 else pareto_front(records, objectives)
    return sorted(found, key=lambda record: (_costs(record, objectives)[0], record.number))


@dataclass(frozen=True)
class Candidate:
    """COMPLETE trial with its repetitions so far, of `num_seeds` requested seeds."""

    trial: TrialRecord
    seeds: tuple[TrialRecord, ...]
    num_seeds: int

    @property
    def is_complete(self) -> bool:
        """Whether every seed is COMPLETE."""
        return len(self.values) == self.num_seeds

    @property
    def values(self) -> list[float]:
        """First objective of each COMPLETE seed, starting with the trial itself."""
        return [record.value for record in (self.trial, *self.seeds) if record.value is not None]

    @property
    def mean(self) -> float:
        """The mean of `values`."""
        return statistics.fmean(self.values)

    @property
    def standard_deviation(self) -> float | None:
        """Sample standard deviation of `values` (divisor n - 1); None for a single value."""
        return statistics.stdev(self.values) if len(self.values) > 1 else None


def candidates_of(
    best: Sequence[TrialRecord], seeds: Sequence[TrialRecord], *, num_seeds: int
) -> list[Candidate]:
    """Return the best trials, each with its repetitions up to the requested number of seeds."""
    requested = [record for record in seeds if record.seed_index < num_seeds]
    return [
        Candidate(trial, tuple(s for s in requested if s.confirms == trial.number), num_seeds=num_seeds)
        for trial in best
    ]


def by_mean(candidates: Sequence[Candidate], *, objective: Objective) -> list[Candidate]:
    """Return the candidates ordered by their mean, then by number.

    Candidates with a failed or missing seed come after all others, because their mean may lack the worst
    seeds.
    """
    sign = _sign(objective)
    return sorted(candidates, key=lambda c: (not c.is_complete, sign * c.mean, c.trial.number))


def violations(record: TrialRecord, constraints: Sequence[Constraint]) -> dict[str, float | None]:
    """Return the violation of each constraint by the newest value of its metric; at most 0 if satisfied.

    None if a metric was never reported.
    """
    return {constraint_text(constraint): _violation(record, constraint) for constraint in constraints}


def constraint_text(constraint: Constraint) -> str:
    """Return a constraint as text, which is its key in the study too."""
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
    """The values with signs such that smaller is better."""
    pairs = zip(record.values, objectives, strict=True)
    return tuple(_sign(objective) * value for value, objective in pairs)


def _sign(objective: Objective) -> int:
    return -1 if objective.direction == "maximize" else 1


def _feasible(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.state == State.COMPLETE and record.feasible]


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
