"""All invariants hold for valid facts; each violation is detected by its invariant."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tune_jobs.study.records import AttemptEnd, Reason, State, TrialRecord
from tune_jobs.tracking.run_entries import run_status

from .facts import Facts, TrackedRun
from .invariants import INVARIANTS
from .training import Saved

MakeRecord = Callable[..., TrialRecord]
Violation = Callable[[Facts], Facts]

(NUMBERS, RUNNING, FINISHED, LOST, NOTICE, RUNS, REGISTERED, ORPHANED, UNDISTURBED) = INVARIANTS


@pytest.fixture
def facts(make_record: MakeRecord) -> Facts:
    """Two trials of three epochs; the second attempt of the first one resumed after epoch 1."""
    first, second = make_record(0), make_record(1, "PRUNED", reason="rung")
    epochs = tuple(replace(epoch, attempt=1 + (epoch.epoch > 1)) for epoch in first.epochs)
    records = [replace(first, epochs=epochs, attempts=2), second]
    start = first.started_ms
    times = {epoch.epoch: epoch.timestamp_ms for epoch in first.epochs}
    return Facts(
        num_trials=2,
        records=records,
        attempts_ms={(0, 1): start, (0, 2): times[1] + 1, (1, 1): second.started_ms},
        runs=[TrackedRun(None, "FINISHED", (("test/top1", 0, 0.9),)), *map(run_of, records)],
        versions=[0],
        saved=[
            *(Saved(0, 1, epoch, times[epoch] - 1) for epoch in (0, 1)),
            *(Saved(0, 2, epoch, times[epoch] + 2) for epoch in (1, 2, 3)),
            *(Saved(1, 1, epoch.epoch, epoch.timestamp_ms - 1) for epoch in second.epochs),
        ],
        orphaned=[],
        undisturbed=[first, second],
    )


def run_of(record: TrialRecord) -> TrackedRun:
    points = [(name, e.epoch, value) for e in record.epochs for name, value in e.metrics.items()]
    return TrackedRun(record.number, run_status(record.state), tuple(points))


def broken(facts: Facts) -> set[str]:
    return {name for name, check in INVARIANTS.items() if check(facts).broken}


def test_all_invariants_hold_for_valid_facts(facts: Facts) -> None:
    assert broken(facts) == set()
    counted = {name: check(facts).counted for name, check in INVARIANTS.items()}
    assert counted[LOST] == "8 epochs finished, 0 of them twice; 1 resumptions"
    assert counted[FINISHED] == "3 attempts"


def with_record(facts: Facts, number: int, **changes: object) -> Facts:
    records = [replace(r, **changes) if r.number == number else r for r in facts.records]  # type: ignore[arg-type]
    return replace(facts, records=records)


def with_run(facts: Facts, number: int | None, **changes: object) -> Facts:
    runs = [replace(r, **changes) if r.trial == number else r for r in facts.runs]  # type: ignore[arg-type]
    return replace(facts, runs=runs)


def late(facts: Facts) -> int:
    return 1 + max(record.finished_ms or 0 for record in facts.records)


# The first attempt finishes more epochs, and the second one resumes from an earlier epoch.
def resuming_earlier(facts: Facts, *, finished: int, resumed: int) -> Facts:
    started = next(saved for saved in facts.saved if saved.attempt == 2)
    more = [Saved(0, 1, epoch, started.seen_ms - 1) for epoch in range(2, finished + 1)]
    rest = [saved for saved in facts.saved if saved.attempt == 1]
    return replace(facts, saved=[*rest, *more, replace(started, epoch=resumed)])


def preempted(facts: Facts, *, epoch: int) -> Facts:
    end = AttemptEnd(1, Reason.PREEMPTED, f"stopped on request after step 7 of epoch {epoch}")
    return with_record(facts, 0, attempt_ends=(end,))


VIOLATIONS: dict[str, tuple[Violation, str]] = {
    "a missing trial": (lambda f: replace(f, num_trials=3), NUMBERS),
    "a running trial": (lambda f: with_record(f, 1, state=State.RUNNING, finished_ms=None), RUNNING),
    "a failed trial": (lambda f: with_record(f, 1, state=State.FAIL), RUNNING),
    "a running search": (lambda f: with_run(f, None, status="RUNNING"), RUNNING),
    "a finished trial scheduled": (
        lambda f: replace(f, attempts_ms={**f.attempts_ms, (1, 2): late(f)}), FINISHED),
    "a finished trial trained": (lambda f: replace(f, saved=[*f.saved, Saved(1, 2, 3, late(f))]), FINISHED),
    "a recorded epoch trained again": (lambda f: resuming_earlier(f, finished=1, resumed=0), LOST),
    "two finished epochs lost": (lambda f: resuming_earlier(f, finished=3, resumed=1), LOST),
    "a preempted attempt's epoch twice": (lambda f: preempted(f, epoch=3), NOTICE),
    "a trial without a run": (lambda f: replace(f, runs=f.runs[:-1]), RUNS),
    "two runs of a trial": (lambda f: replace(f, runs=[*f.runs, f.runs[-1]]), RUNS),
    "a point twice": (lambda f: with_run(f, 1, points=f.runs[2].points + f.runs[2].points[:1]), RUNS),
    "a point missing": (lambda f: with_run(f, 1, points=f.runs[2].points[1:]), RUNS),
    "a different status": (lambda f: with_run(f, 1, status="FINISHED"), RUNS),
    "an encoder registered twice": (lambda f: replace(f, versions=[0, 0]), REGISTERED),
    "no encoder registered": (lambda f: replace(f, versions=[]), REGISTERED),
    "an orphaned process": (lambda f: replace(f, orphaned=["process 1"]), ORPHANED),
    "a different value": (lambda f: with_record(f, 0, values=(0.5,)), UNDISTURBED),
    "a different parameter": (lambda f: with_record(f, 0, parameters={"loss.temperature": 0.2}), UNDISTURBED),
}  # fmt: skip


@pytest.mark.parametrize("violation", VIOLATIONS)
def test_a_violation_is_detected_by_its_invariant(facts: Facts, violation: str) -> None:
    change, invariant = VIOLATIONS[violation]
    assert invariant in broken(change(facts))


def test_one_finished_epoch_may_be_lost(facts: Facts) -> None:
    assert broken(resuming_earlier(facts, finished=2, resumed=1)) == set()


def test_a_preempted_attempt_resumes_in_the_same_epoch(facts: Facts) -> None:
    assert broken(preempted(facts, epoch=2)) == set()


def test_costs_may_differ_from_the_undisturbed_search(facts: Facts) -> None:
    epochs = tuple(replace(e, metrics={**e.metrics, "cost/seconds": 99.0}) for e in facts.records[0].epochs)
    changed = with_record(facts, 0, epochs=epochs)
    assert UNDISTURBED not in broken(changed)
