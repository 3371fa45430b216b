"""Which of the finished trials are best: pure functions of their records."""

from collections.abc import Sequence

from tune_jobs.records import State, TrialRecord
from tune_jobs.space.settings import Constraint, Objective


def pareto_front(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> list[TrialRecord]:
    """Return the trials that no other one dominates, by number; with one objective the best and its equals.

    Only COMPLETE trials that keep every constraint are looked at. A trial dominates another when it is at
    least as good in every objective and better in one.
    """
    candidates = [record for record in records if record.state == State.COMPLETE and record.feasible]
    costs = {record.number: _costs(record, objectives) for record in candidates}
    front: list[tuple[float, ...]] = []
    for cost in sorted(set(costs.values())):  # what dominates another one comes before it
        if not any(_dominates(other, cost) for other in front):
            front.append(cost)
    return [record for record in candidates if costs[record.number] in front]


def best_of(records: Sequence[TrialRecord], objectives: Sequence[Objective]) -> TrialRecord | None:
    """Return the one of the Pareto front that is best in the first objective; None where the front is empty.

    The lower number wins a tie.
    """
    front = pareto_front(records, objectives)
    return min(front, key=lambda record: (_costs(record, objectives)[0], record.number), default=None)


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
    return tuple(-value if objective.direction == "maximize" else value for value, objective in pairs)


def _dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one != other and all(a <= b for a, b in zip(one, other, strict=True))
