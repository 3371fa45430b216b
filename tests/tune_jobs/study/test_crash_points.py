"""A search that is killed before any of its writes, and then resumed, gives the same result.

The database is copied before every commit of an uninterrupted search: each copy is the state after a kill at
that point. Another launcher resumes from each copy until it has finished a trial and sampled the next. More
is not needed: it then has the same records as the uninterrupted search, whose later commits are other copies.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy.event
from sqlalchemy.engine import Engine

from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.records import Reason, State
from tune_jobs.study.search_study import Attempt, Decision, SearchStudy
from tune_jobs.study.trial_study import TrialStudy

SPACE = """
name: crash
train:
  optim: {epochs: 2, warmup_epochs: 0}
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth: {choices: [fc, same], when: {model.exit_stages: [[1], [2]]}}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
forbid:
  - {model.exit_stages: [1], model.exit_depth: same}
start:
  - {model.exit_stages: [2], loss.temperature: 0.1}
search: {num_trials: 6, seed: 4}
"""
FINITE = SPACE.replace("low: 0.05, high: 0.5, log: true", "low: 0.1, high: 0.5, step: 0.1")
HALVING = "pruner: {kind: successive_halving, min_epochs: 1, reduction_factor: 2}\n"
HYPERBAND = "pruner: {kind: hyperband, min_epochs: 1, reduction_factor: 2}\n"
MEDIAN = "pruner: {kind: median, min_epochs: 1}\n"
CONFIRM = "confirm: {top_k: 2, seeds: 3}\n"
SEVERAL = """
objective:
  - {metric: val/top1, direction: maximize}
  - {metric: cost/seconds, direction: minimize}
constraints: [{metric: cost/peak_memory_mb, max: 250}]
"""

CASES = {
    "successive halving": SPACE + HALVING,
    "hyperband": SPACE.replace("num_trials: 6", "num_trials: 4") + HYPERBAND,
    "median": SPACE.replace("num_trials: 6", "num_trials: 7") + MEDIAN,
    "confirmation": SPACE.replace("num_trials: 6", "num_trials: 4") + HALVING + CONFIRM,
    "several objectives": SPACE.replace("num_trials: 6", "num_trials: 4") + SEVERAL + HALVING,
    **{
        name: (FINITE if name == "brute_force" else SPACE).replace(
            "num_trials: 6", f"num_trials: 2, sampler: {name}"
        )
        for name in ("random", "qmc", "cmaes", "gp", "nsga2", "brute_force")
    },
}  # fmt: skip
COMPARED = ("name", "number", "state", "reason", "message", "parameters", "values", "violations", "config")


@pytest.fixture(autouse=True)
def quick_commits() -> Iterator[None]:
    """Writes without fsync: these tests simulate killed processes, not power failures."""

    def set_pragma(connection: Any, _record: object) -> None:
        connection.execute("PRAGMA synchronous = OFF")

    sqlalchemy.event.listen(Engine, "connect", set_pragma)
    yield
    sqlalchemy.event.remove(Engine, "connect", set_pragma)


@pytest.mark.parametrize("case", CASES)
def test_a_search_killed_before_any_write_resumes_with_the_same_trials(tmp_path: Path, case: str) -> None:
    space = make_space(tmp_path, CASES[case])
    open_study(tmp_path / "study.db", space)
    copies = copies_before_commits(tmp_path, lambda path: search(path, space))
    uninterrupted = outcome(tmp_path / "study.db", space)
    different = []
    for number, copy in enumerate(copies):
        path = tmp_path / f"{number}.db"
        path.write_bytes(copy)
        search(path, space, max_ended=1)
        ended = outcome(path, space)
        *before, newest = zip(ended, uninterrupted, strict=False)
        if any(now != then for now, then in before) or newest[0]["parameters"] != newest[1]["parameters"]:
            different.append(number)
    assert not different
    assert len(copies) > 4 * space.search.num_trials


@pytest.mark.parametrize("case", ["successive halving", "several objectives", "confirmation"])
def test_a_search_killed_before_every_eighth_write_ends_with_the_same_result(
    tmp_path: Path, case: str
) -> None:
    space = make_space(tmp_path, CASES[case])
    copies = copies_before_commits(tmp_path, lambda path: search(path, space))  # including the empty file
    uninterrupted = outcome(tmp_path / "study.db", space)
    for number, copy in enumerate(copies[::8]):
        path = tmp_path / f"{number}.db"
        path.write_bytes(copy)
        search(path, space)
        assert outcome(path, space) == uninterrupted
        assert winner(path, space) == winner(tmp_path / "study.db", space)
    assert {trial["state"] for trial in uninterrupted} >= {State.COMPLETE, State.PRUNED}


def make_space(folder: Path, text: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text(text)
    return load_space(path)


def copies_before_commits(folder: Path, run: Any) -> list[bytes]:
    """Run on `study.db`; return its content before each commit that changed it, and at the end."""
    path = folder / "study.db"
    states: dict[bytes, None] = {}

    def keep(_connection: object) -> None:
        states[path.read_bytes()] = None

    sqlalchemy.event.listen(Engine, "commit", keep)
    try:
        run(path)
    finally:
        sqlalchemy.event.remove(Engine, "commit", keep)
    return [*states, path.read_bytes()]


def search(path: Path, space: SearchSpace, *, max_ended: float = math.inf) -> None:
    """Run the search sequentially, to its end or until a trial starts after `max_ended` have ended."""
    num_ended = 0
    for study in open_study(path, space).stages:
        while (given := study.next_attempt()) is not None:
            if num_ended >= max_ended:
                return
            train(study, given)
            num_ended += study.record(given.number).state != State.RUNNING
        assert study.finished


def open_study(path: Path, space: SearchSpace) -> SearchStudy:
    study = SearchStudy(f"sqlite:///{path}", space, data_digest="d")
    study.set_num_trials(space.search.num_trials)
    return study


def winner(path: Path, space: SearchSpace) -> int | None:
    found = open_study(path, space).winner()
    return None if found is None else found.number


def train(study: TrialStudy, given: Attempt) -> None:
    """Train an attempt from its next epoch on; some configurations fail or diverge, and one seed does."""
    stage, temperature = given.config.model.exit_stages[0], given.config.loss.temperature
    if stage == 3 and temperature < 0.2:
        study.end_attempt(given.number, given.attempt, Reason.OUT_OF_MEMORY, "too large")
        return
    diverges = (stage == 1 and temperature > 0.3) or (stage == 2 and given.config.seed == 2)
    for epoch in range(given.last_epoch + 1, given.config.optim.epochs + 1):
        top1 = 1 - abs(math.log(temperature / 0.15)) / 4 - 0.1 / (stage * (epoch + 1))
        top1 -= 0.05 * given.config.seed * stage
        metrics = {
            "val/top1": math.nan if diverges and epoch == 2 else top1,
            "cost/seconds": stage * epoch + temperature,
            "cost/peak_memory_mb": 100.0 * stage,
            **({"train/loss": 1.0} if epoch else {}),
        }
        if study.report(given.number, given.attempt, epoch, metrics) is Decision.STOP:
            break
    study.end_attempt(given.number, given.attempt)


def outcome(path: Path, space: SearchSpace) -> list[dict[str, Any]]:
    """Return the trials without times and attempts, which depend on kills."""
    study = open_study(path, space)
    return [
        {
            **{name: getattr(record, name) for name in COMPARED},
            "epochs": [(epoch.epoch, epoch.metrics) for epoch in record.epochs],
        }
        for record in study.all_records()
    ]
