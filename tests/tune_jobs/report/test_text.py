import io
import shlex
from pathlib import Path

import pytest
from rich.console import Console

from tune_jobs.options import LaunchOptions
from tune_jobs.report.text import print_result, result_metrics, summary
from tune_jobs.space import SearchSpace, load_space
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.trial_study import TrialStudy

SPACE = """
name: report
description: Two temperatures.
train: {optim: {epochs: 1}}
space: {loss.temperature: {low: 0.05, high: 0.5}}
start: [{loss.temperature: 0.1}, {loss.temperature: 0.2}]
search: {num_trials: 2}
confirm: {top_k: 2, seeds: 3}
"""
# val/top1 of the runs in the order of their training; a run with NaN fails.
TRIALS, SEEDS = [0.9, 0.8], [0.3, 0.8, 0.3, 0.86]


def run(study: TrialStudy, values: list[float]) -> None:
    for value in values:
        attempt = study.next_attempt()
        assert attempt is not None
        for epoch in range(2):
            study.report(attempt.number, attempt.attempt, epoch, {"val/top1": value if epoch else 0.25})
        study.end_attempt(attempt.number, attempt.attempt)


@pytest.fixture
def space(tmp_path: Path) -> SearchSpace:
    (tmp_path / "space.yaml").write_text(SPACE)
    return load_space(tmp_path / "space.yaml")


@pytest.fixture
def study(tmp_path: Path, space: SearchSpace) -> SearchStudy:
    study = SearchStudy(f"sqlite:///{tmp_path}/study.db", space, data_digest="d")
    study.set_num_trials(2)
    run(study, TRIALS)
    return study


def printed(study: SearchStudy, overrides: tuple[str, ...] = ()) -> list[list[str]]:
    """The words of each line on a wide terminal."""
    out = io.StringIO()
    console = Console(file=out, width=150)
    options = LaunchOptions(space=Path("report.yaml"), overrides=overrides)
    print_result(console, study.snapshot(), Path("runs/report"), tracking="mlflow ui", options=options)
    return [line.replace("│", " ").split() for line in out.getvalue().splitlines()]


def test_mean_and_standard_deviation_of_each_candidate_are_shown_best_first(study: SearchStudy) -> None:
    assert study.confirmation is not None
    assert not any("mean" in line for line in printed(study))
    run(study.confirmation, SEEDS)
    lines = printed(study)
    assert ["val/top1", "over", "seeds,", "best", "mean", "first"] in lines
    first = lines.index(["1", "0.8200", "0.0346", "3", "of", "3", "0.8000", "0.8000", "0.8600"])
    assert lines[first + 1] == ["0", "0.5000", "0.3464", "3", "of", "3", "0.9000", "0.3000", "0.3000"]


def test_a_failed_seed_is_counted_and_reported(study: SearchStudy) -> None:
    assert study.confirmation is not None
    run(study.confirmation, [float("nan"), 0.7, float("nan"), 0.6])
    lines = printed(study)
    assert ["0", "0.9000", "1", "of", "3", "0.9000"] in lines
    words = "trial 0-seed-1 failed: val/top1 is nan in epoch 1"
    assert words.split() in lines
    assert "confirm/standard_deviation" in result_metrics(study.snapshot())


def test_the_run_of_the_search_shows_the_confirmation_of_the_winner(study: SearchStudy) -> None:
    assert study.confirmation is not None
    assert "confirm/mean" not in result_metrics(study.snapshot())
    run(study.confirmation, SEEDS)
    metrics = result_metrics(study.snapshot())
    assert metrics == pytest.approx(
        {
            "val/top1": 0.8, "best/trial": 1, "confirm/mean": 0.82, "confirm/num_seeds": 3,
            "confirm/standard_deviation": 0.0012**0.5, "trials/complete": 2, "trials/pruned": 0,
            "trials/fail": 0, "trials/running": 0,
        }
    )  # fmt: skip
    text = summary(study.snapshot())
    assert "| 1 | 0.8200 | 0.0346 | 3 of 3 | 0.8000  0.8000  0.8600 |" in text


def test_the_last_lines_show_cost_files_and_next_commands(study: SearchStudy) -> None:
    assert study.confirmation is not None
    assert "next: python launch.py --space report.yaml # resume, if no launcher is running" in " ".join(
        printed(study)[-1]
    )
    run(study.confirmation, SEEDS)
    lines = [" ".join(line) for line in printed(study)[-5:]]
    assert lines == [
        "cost: 0 s of wall-clock time; 0 s of training in 6 runs",
        "files: runs/report",
        "MLflow: mlflow ui",
        "next: python launch.py --space report.yaml --num-trials 4 # more trials",
        "python launch.py --space runs/report/best.yaml # train the winner again",
    ]
    for_more = printed(study, overrides=("search.num_trials=2", "trial.cpus_per_worker=0.5"))[-2]
    assert for_more[1:9] == shlex.split(
        "python launch.py --space report.yaml --num-trials 4 --set trial.cpus_per_worker=0.5"
    )
