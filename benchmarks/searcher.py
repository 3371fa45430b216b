"""What the search itself costs: a suggestion and a report, by the number of finished trials.

On the default storage, an SQLite file in the working directory, on a conditional space; with TPE and the
median pruner, which reads most, if no others are named. Prints milliseconds, median and range, and the growth
from 10 to 1,000 trials:

    .venv/bin/python benchmarks/searcher.py [SAMPLER [PRUNER]]
"""

import statistics
import sys
import tempfile
import time
from pathlib import Path

import optuna
from measure import spread

from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study import Decision, HandOut, SearchStudy

SIZES = (10, 100, 1000)
REPEATS = 15
EPOCHS = 8
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
    """Fill a study and measure at each size."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    with tempfile.TemporaryDirectory(dir=".") as folder:
        path = Path(folder) / "space.yaml"
        path.write_text(SPACE.format(sampler=sampler, pruner=pruner))
        space = load_space(path)
        print(f"{sampler}, {pruner}, ms: median (least to most) of {REPEATS}")
        medians = [measure(space, f"sqlite:///{folder}/study.db", size) for size in SIZES]
    for what, values in zip(("suggestion", "report"), zip(*medians, strict=True), strict=True):
        print(f"{what}: x{values[-1] / values[0]:.2f} from {SIZES[0]} to {SIZES[-1]} trials")


def measure(space: SearchSpace, storage: str, size: int) -> tuple[float, float]:
    """Return the medians of a suggestion and a report with `size` finished trials, in milliseconds."""
    study = open_study(space, storage)
    while len(study.records()) < size:
        train(study, hand_out(study), [])
    suggestions: list[float] = []
    reports: list[float] = []
    for _ in range(REPEATS):
        started = time.perf_counter()
        given = hand_out(study)
        suggestions.append(1000 * (time.perf_counter() - started))
        train(study, given, reports)
    print(f"{size:5d} trials: suggestion {spread(suggestions)}, report {spread(reports)}", flush=True)
    return statistics.median(suggestions), statistics.median(reports)


def open_study(space: SearchSpace, storage: str) -> SearchStudy:
    """Return the study, asked for more trials than are made."""
    study = SearchStudy(storage, space, data_digest="none")
    study.want(space.search.num_trials)
    return study


def hand_out(study: SearchStudy) -> HandOut:
    """Return the next attempt."""
    given = study.hand_out()
    assert given is not None
    return given


def train(study: SearchStudy, given: HandOut, reports: list[float]) -> None:
    """Report every epoch of an attempt until it ends; the milliseconds of each go to `reports`."""
    temperature = given.config.loss.temperature
    for epoch in range(EPOCHS + 1):
        metrics = {"val/top1": 1 - abs(temperature - 0.2) - 0.3 / (epoch + 1), "train/loss": 1.0}
        started = time.perf_counter()
        decision = study.report(given.number, given.attempt, epoch, metrics)
        reports.append(1000 * (time.perf_counter() - started))
        if decision is Decision.STOP:
            break
    study.end_attempt(given.number, given.attempt)


if __name__ == "__main__":
    main(*sys.argv[1:])
