"""Invariants that must hold after any kills, as pure functions of the facts."""

import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.tracking.run_entries import run_status

from .facts import Facts, TrackedRun
from .training import Saved

MAX_LOST_EPOCHS = 1
# These may differ from the undisturbed search; everything else must be equal.
COSTS = "cost/"
TEST = "test/"  # only in the run of the winner
_STOPPED = re.compile(r"after step \d+ of epoch (\d+)")


@dataclass(frozen=True)
class Finding:
    """Result of an invariant: a summary, and a message for each violation."""

    counted: str
    broken: tuple[str, ...]


def trial_numbers(facts: Facts) -> Finding:
    """Every trial number occurs once, and the total is as requested."""
    found = [record.number for record in facts.records]
    counted = sum(record.counts for record in facts.records)
    broken = [f"numbers {found}"] if found != list(range(len(found))) else []
    broken += [f"{counted} trials, requested {facts.num_trials}"] if counted != facts.num_trials else []
    return Finding(f"{counted} trials", tuple(broken))


def nothing_running(facts: Facts) -> Finding:
    """Nothing is RUNNING in Optuna or MLflow, and no trial has failed because of kills."""
    states = Counter(str(record.state) for record in facts.records)
    broken = [f"trial {r.number} is RUNNING" for r in facts.records if r.state == State.RUNNING]
    broken += [f"trial {r.number} failed: {r.message}" for r in facts.records if r.state == State.FAIL]
    broken += [f"the run of {_owner(run)} is RUNNING" for run in facts.runs if run.status == "RUNNING"]
    return Finding(", ".join(f"{count} {state}" for state, count in sorted(states.items())), tuple(broken))


def finished_not_retrained(facts: Facts) -> Finding:
    """No finished trial is scheduled or trained again."""
    finished_ms = {r.number: r.finished_ms for r in facts.records if r.finished_ms is not None}
    started = dict(facts.attempts_ms)
    for saved in facts.saved:
        started.setdefault((saved.trial, saved.attempt), saved.seen_ms)
    late = [key for key, started_ms in started.items() if started_ms > finished_ms.get(key[0], started_ms)]
    broken = [f"trial {trial}: attempt {attempt} started after its end" for trial, attempt in late]
    return Finding(f"{len(started)} attempts", tuple(broken))


def few_epochs_lost(facts: Facts) -> Finding:
    """No recorded epoch is trained again, and an attempt repeats at most one finished epoch.

    A kill interrupts the epoch in training. A finished epoch is lost only if it ended while the next attempt
    was already choosing its checkpoint.
    """
    broken, lost, trained = [], 0, 0
    for record in facts.records:
        for saved, before in _resumptions(facts, record.number):
            recorded = [
                e.epoch for e in record.epochs if e.attempt < saved.attempt and e.timestamp_ms < saved.seen_ms
            ]
            newest = max((other.epoch for other in before), default=saved.epoch)
            lost += max(0, newest - saved.epoch)
            where = f"trial {record.number}, attempt {saved.attempt} resumes from epoch {saved.epoch}"
            if recorded and saved.epoch < max(recorded):
                broken.append(f"{where}, although {max(recorded)} is recorded")
            if newest - saved.epoch > MAX_LOST_EPOCHS:
                broken.append(f"{where}, although {newest} was finished")
        trained += len({(s.attempt, s.epoch) for s in facts.saved if s.trial == record.number})
    attempts = {(saved.trial, saved.attempt) for saved in facts.saved}
    resumed = len(attempts) - len({trial for trial, _ in attempts})
    return Finding(
        f"{trained - resumed} epochs finished, {lost} of them twice; {resumed} resumptions", tuple(broken)
    )


def _resumptions(facts: Facts, trial: int) -> Iterator[tuple[Saved, list[Saved]]]:
    """First checkpoint of each attempt, from which it resumed, with the older ones of earlier attempts."""
    first: dict[int, Saved] = {}
    for saved in facts.saved:
        if saved.trial == trial:
            first.setdefault(saved.attempt, saved)
    for attempt, started in first.items():
        yield (
            started,
            [
                s
                for s in facts.saved
                if s.trial == trial and s.attempt < attempt and s.seen_ms < started.seen_ms
            ],
        )


def preemption_loses_nothing(facts: Facts) -> Finding:
    """After a preemption notice the trial resumes in the same epoch, after the same step."""
    broken, num_preempted = [], 0
    for record in facts.records:
        for end in record.attempt_ends:
            if end.reason != Reason.PREEMPTED:
                continue
            num_preempted += 1
            epoch = int(_STOPPED.findall(end.message)[0])
            following = [e.epoch for e in record.epochs if e.attempt > end.attempt]
            if following[:1] not in ([], [epoch]):
                where = f"trial {record.number}, attempt {end.attempt} was stopped in epoch {epoch}"
                broken.append(f"{where}, the next epoch recorded is {following[0]}")
    return Finding(f"{num_preempted} attempts preempted", tuple(broken))


def one_run_each(facts: Facts) -> Finding:
    """One MLflow run per trial and one for the search, with every point of the study exactly once."""
    owners = Counter(run.trial for run in facts.runs)
    expected = Counter([None, *(record.number for record in facts.records if record.counts)])
    broken = [f"runs of {owners}, expected {expected}"] if owners != expected else []
    by_number = {record.number: record for record in facts.records}
    for run in facts.runs:
        repeated = [key for key, count in Counter(point[:2] for point in run.points).items() if count > 1]
        broken += [f"the run of {_owner(run)} has {metric} of step {step} twice" for metric, step in repeated]
        record = by_number.get(-1 if run.trial is None else run.trial)
        if record is not None and _training_points(run) != _points(record):
            broken.append(f"the run of {_owner(run)} differs from the study")
        if record is not None and run.status != run_status(record.state):
            broken.append(f"the run of {_owner(run)} is {run.status}, the trial {record.state}")
    num_points = sum(len(run.points) for run in facts.runs)
    return Finding(f"{len(facts.runs)} runs, {num_points} points", tuple(broken))


def registered_once(facts: Facts) -> Finding:
    """The encoder of the winner is registered, and none is registered twice."""
    twice = [trial for trial, count in Counter(facts.versions).items() if count > 1]
    broken = [f"trial {trial} is registered twice" for trial in twice]
    broken += [] if facts.versions else ["no encoder is registered"]
    return Finding(f"{len(facts.versions)} versions", tuple(broken))


def nothing_orphaned(facts: Facts) -> Finding:
    """No orphaned process, placement group or lock remains."""
    return Finding(f"{len(facts.orphaned)} orphaned", tuple(facts.orphaned))


def equal_to_undisturbed(facts: Facts) -> Finding:
    """Parameters, states and all values are equal to those of the same search without kills."""
    if facts.undisturbed is None:
        return Finding("", ())
    ours, theirs = (list(map(_outcome, records)) for records in (facts.records, facts.undisturbed))
    broken = [f"{len(ours)} trials, undisturbed {len(theirs)}"] if len(ours) != len(theirs) else []
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False)):
        broken += [
            f"trial {number}: {name} is {mine[name]}, undisturbed {other[name]}"
            for name in mine
            if mine[name] != other[name]
        ]
    num_values = sum(len(epoch) for outcome in theirs for _, epoch in outcome["epochs"])
    return Finding(f"{len(theirs)} trials, {num_values} values", tuple(broken))


INVARIANTS: dict[str, Callable[[Facts], Finding]] = {
    "every trial number once, total as requested": trial_numbers,
    "nothing RUNNING in Optuna or MLflow, no trial failed": nothing_running,
    "no finished trial trained again": finished_not_retrained,
    "at most one epoch lost per trial and kill": few_epochs_lost,
    "a preemption notice costs no epoch": preemption_loses_nothing,
    "one MLflow run per trial, each (metric, step) once": one_run_each,
    "the winner registered, once": registered_once,
    "no orphaned process, placement group or lock": nothing_orphaned,
    "parameters, states, values as without kills": equal_to_undisturbed,
}


def _owner(run: TrackedRun) -> str:
    return "the search" if run.trial is None else f"trial {run.trial}"


def _training_points(run: TrackedRun) -> set[tuple[str, int, float]]:
    return {point for point in run.points if not point[0].startswith(TEST)}


def _points(record: TrialRecord) -> set[tuple[str, int, float]]:
    return {(name, epoch.epoch, value) for epoch in record.epochs for name, value in epoch.metrics.items()}


def _outcome(record: TrialRecord) -> dict[str, Any]:
    return {
        "state": record.state,
        "reason": record.reason,
        "parameters": record.parameters,
        "config": record.config,
        "values": record.values,
        "epochs": [
            (
                epoch.epoch,
                {name: value for name, value in epoch.metrics.items() if not name.startswith(COSTS)},
            )
            for epoch in record.epochs
        ],
    }
