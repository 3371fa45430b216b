"""Cost of suggestions, reports and starts of a search, by the number of finished trials.

Uses the default storage, an SQLite file in the current folder, and a conditional space; by default TPE and
the median pruner, which reads the most. The sizes alternate. A suggestion includes its storage. "ending" is
a report that ends a trial; it stores more than other reports. A start reads the study and makes the first
suggestion. Prints median and range in milliseconds, and the growth from 10 to 1,000 trials:

    .venv/bin/python benchmarks/searcher.py [SAMPLER [PRUNER]]
"""

import math
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path

import optuna
from measure import spread

from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.search_study import Attempt, Decision, SearchStudy

SIZES = (10, 100, 1000)
REPEATS = 25
EPOCHS = 8
MEASURED = ("suggestion", "report", "ending")
SPACE = """
name: cost
train: {{optim: {{epochs: 8, warmup_epochs: 1}}}}
space:
  model.exit_stages: {{choices: [[1], [2], [3]]}}
  model.exit_depth: {{choices: [fc, small, same], when: {{model.exit_stages: [[1], [2]]}}}}
  loss.temperature: {{low: 0.05, high: 0.5, log: true}}
  loss.exit_weight: {{low: 0.1, high: 4.0, log: true}}
search: {{num_trials: 100000, sampler: {sampler}}}
pruner: {{kind: {pruner}}}
"""


def main(sampler: str = "tpe", pruner: str = "median") -> None:
    """Fill a study of each size and measure them in alternation."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(SPACE.format(sampler=sampler, pruner=pruner))
        space = load_space(path)
        costs = {size: Costs() for size in SIZES}
        storages = {size: f"sqlite:///{folder}/{size}.db" for size in SIZES}
        for size in SIZES:
            fill(open_study(space, storages[size]), size)
        studies = {size: start(space, storages[size], costs[size]) for size in SIZES}
        for repeat in range(REPEATS):
            for size in SIZES if repeat % 2 else reversed(SIZES):
                measure(studies[size], costs[size])
        print_costs(f"{sampler}, {pruner}", costs)


@dataclass
class Costs:
    """Milliseconds of each suggestion, report, ending report and start, for one number of trials."""

    suggestion: list[float] = field(default_factory=list)
    report: list[float] = field(default_factory=list)
    ending: list[float] = field(default_factory=list)
    start: list[float] = field(default_factory=list)


def fill(study: SearchStudy, size: int) -> None:
    """Train until the study has `size` trials."""
    while len(study.records()) < size:
        train(study, next_attempt(study), Costs())


def start(space: SearchSpace, storage: str, costs: Costs) -> SearchStudy:
    """Open the study as a new launcher does, train the first suggested trial, and return the study."""
    started = time.perf_counter()
    study = open_study(space, storage)
    attempt = next_attempt(study)
    costs.start.append(1000 * (time.perf_counter() - started))
    train(study, attempt, Costs())
    return study


def measure(study: SearchStudy, costs: Costs) -> None:
    """Suggest and train one trial."""
    started = time.perf_counter()
    attempt = next_attempt(study)
    costs.suggestion.append(1000 * (time.perf_counter() - started))
    train(study, attempt, costs)


def print_costs(label: str, costs: dict[int, Costs]) -> None:
    """Print a line for each size, and the growth of each cost."""
    print(f"{label}, ms: median (min to max) of {REPEATS}; one start")
    for size, cost in costs.items():
        parts = [f"{name} {spread(getattr(cost, name) or [math.nan])}" for name in MEASURED]
        print(f"{size:5d} trials: {', '.join(parts)}, start {cost.start[0]:.0f}")
    for name in MEASURED:
        measured = [getattr(costs[size], name) or [math.nan] for size in (SIZES[0], SIZES[-1])]
        first, last = map(statistics.median, measured)
        print(f"{name}: x{last / first:.2f} from {SIZES[0]} to {SIZES[-1]} trials")


def open_study(space: SearchSpace, storage: str) -> SearchStudy:
    """Return the study, with more requested trials than the benchmark trains."""
    study = SearchStudy(storage, space, data_digest="none")
    study.set_num_trials(space.search.num_trials)
    return study


def next_attempt(study: SearchStudy) -> Attempt:
    """Return the next attempt."""
    attempt = study.next_attempt()
    assert attempt is not None
    return attempt


def train(study: SearchStudy, attempt: Attempt, costs: Costs) -> None:
    """Report epochs of an attempt until it ends, and record the milliseconds in `costs`."""
    temperature = attempt.config.loss.temperature
    for epoch in range(EPOCHS + 1):
        metrics = {"val/top1": 1 - abs(temperature - 0.2) - 0.3 / (epoch + 1), "train/loss": 1.0}
        started = time.perf_counter()
        decision = study.report(attempt.number, attempt.attempt, epoch, metrics)
        milliseconds = 1000 * (time.perf_counter() - started)
        if decision is Decision.STOP:
            costs.ending.append(milliseconds)
            break
        if epoch > 0:  # the untrained network has no objective value to store
            costs.report.append(milliseconds)
    study.end_attempt(attempt.number, attempt.attempt)


if __name__ == "__main__":
    main(*sys.argv[1:])
