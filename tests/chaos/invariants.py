"""What must hold after any kills: pure functions of the facts that count something and say what is broken."""

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
# How long a run takes must not be the same; everything else must.
COSTS = "cost/"
TEST = "test/"  # what the winner's run has besides
_STOPPED = re.compile(r"after step \d+ of epoch (\d+)")


@dataclass(frozen=True)
class Finding:
    """What an invariant counted, in words, and each case in which it does not hold."""

    counted: str
    broken: tuple[str, ...]


def numbers(facts: Facts) -> Finding:
    """Every trial number once, and the total as asked."""
    found = [record.number for record in facts.records]
    counted = sum(record.counts for record in facts.records)
    broken = [f"numbers {found}"] if found != list(range(len(found))) else []
    broken += [f"{counted} trials, asked for {facts.num_trials}"] if counted != facts.num_trials else []
    return Finding(f"{counted} trials", tuple(broken))


def nothing_running(facts: Facts) -> Finding:
    """Nothing RUNNING in Optuna or MLflow, and no trial that failed of being killed."""
    states = Counter(str(record.state) for record in facts.records)
    broken = [f"trial {r.number} is RUNNING" for r in facts.records if r.state == State.RUNNING]
    broken += [f"trial {r.number} failed: {r.message}" for r in facts.records if r.state == State.FAIL]
    broken += [f"the run of {_owner(run)} is RUNNING" for run in facts.runs if run.status == "RUNNING"]
    return Finding(", ".join(f"{count} {state}" for state, count in sorted(states.items())), tuple(broken))


def finished_is_finished(facts: Facts) -> Finding:
    """No finished trial is handed out, or trained, again."""
    finished_ms = {r.number: r.finished_ms for r in facts.records if r.finished_ms is not None}
    begun = dict(facts.attempts_ms)
    for saved in facts.saved:
        begun.setdefault((saved.trial, saved.attempt), saved.seen_ms)
    late = [key for key, begun_ms in begun.items() if begun_ms > finished_ms.get(key[0], begun_ms)]
    broken = [f"trial {trial}: attempt {attempt} began after its end" for trial, attempt in late]
    return Finding(f"{len(begun)} attempts", tuple(broken))


def little_is_lost(facts: Facts) -> Finding:
    """No recorded epoch is trained again, and an attempt goes on at most one finished epoch further back.

    What a kill interrupts is the epoch in training; a finished one is lost only where it ended while the next
    attempt was already looking for the newest checkpoint.
    """
    broken, lost, trained = [], 0, 0
    for record in facts.records:
        for saved, before in _resumptions(facts, record.number):
            recorded = [
                e.epoch for e in record.epochs if e.attempt < saved.attempt and e.timestamp_ms < saved.seen_ms
            ]
            newest = max((other.epoch for other in before), default=saved.epoch)
            lost += max(0, newest - saved.epoch)
            where = f"trial {record.number}, attempt {saved.attempt} goes on from epoch {saved.epoch}"
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
    """Each attempt's first checkpoint, which is the one it found, with those of earlier attempts by then."""
    first: dict[int, Saved] = {}
    for saved in facts.saved:
        if saved.trial == trial:
            first.setdefault(saved.attempt, saved)
    for attempt, begun in first.items():
        yield (
            begun,
            [
                s
                for s in facts.saved
                if s.trial == trial and s.attempt < attempt and s.seen_ms < begun.seen_ms
            ],
        )


def notice_costs_nothing(facts: Facts) -> Finding:
    """Where a node leaves with notice the trial goes on in the epoch that it was in, behind the same step."""
    broken, told = [], 0
    for record in facts.records:
        for end in record.attempt_ends:
            if end.reason != Reason.PREEMPTED:
                continue
            told += 1
            epoch = int(_STOPPED.findall(end.message)[0])
            following = [e.epoch for e in record.epochs if e.attempt > end.attempt]
            if following[:1] not in ([], [epoch]):
                where = f"trial {record.number}, attempt {end.attempt} was stopped in epoch {epoch}"
                broken.append(f"{where}, the next epoch recorded is {following[0]}")
    return Finding(f"{told} attempts preempted", tuple(broken))


def one_run_each(facts: Facts) -> Finding:
    """One MLflow run a trial and one of the search, and every point of the study in them once."""
    owners = Counter(run.trial for run in facts.runs)
    expected = Counter([None, *(record.number for record in facts.records if record.counts)])
    broken = [f"runs of {owners}, expected {expected}"] if owners != expected else []
    by_number = {record.number: record for record in facts.records}
    for run in facts.runs:
        repeated = [key for key, count in Counter(point[:2] for point in run.points).items() if count > 1]
        broken += [f"the run of {_owner(run)} has {metric} of step {step} twice" for metric, step in repeated]
        record = by_number.get(-1 if run.trial is None else run.trial)
        if record is not None and _of_training(run) != _points(record):
            broken.append(f"the run of {_owner(run)} differs from the study")
        if record is not None and run.status != run_status(record.state):
            broken.append(f"the run of {_owner(run)} is {run.status}, the trial {record.state}")
    num_points = sum(len(run.points) for run in facts.runs)
    return Finding(f"{len(facts.runs)} runs, {num_points} points", tuple(broken))


def registered_once(facts: Facts) -> Finding:
    """The winner's encoder is registered, and no trial's twice."""
    twice = [trial for trial, count in Counter(facts.versions).items() if count > 1]
    broken = [f"trial {trial} is registered twice" for trial in twice]
    broken += [] if facts.versions else ["no encoder is registered"]
    return Finding(f"{len(facts.versions)} versions", tuple(broken))


def nothing_left(facts: Facts) -> Finding:
    """No process, placement group or lock is left over."""
    return Finding(f"{len(facts.left_over)} left", tuple(facts.left_over))


def as_undisturbed(facts: Facts) -> Finding:
    """Parameters, states and every value are those of the same search without kills."""
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
    "every trial number once, the total as asked": numbers,
    "nothing RUNNING in Optuna or MLflow, no trial failed": nothing_running,
    "no finished trial trained again": finished_is_finished,
    "at most one epoch lost per trial and kill": little_is_lost,
    "a node that leaves with notice costs no epoch": notice_costs_nothing,
    "one MLflow run a trial, each (metric, step) once": one_run_each,
    "the winner registered, once": registered_once,
    "no process, placement group or lock left over": nothing_left,
    "parameters, states, values as undisturbed": as_undisturbed,
}


def _owner(run: TrackedRun) -> str:
    return "the search" if run.trial is None else f"trial {run.trial}"


def _of_training(run: TrackedRun) -> set[tuple[str, int, float]]:
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
