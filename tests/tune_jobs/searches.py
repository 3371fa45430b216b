"""Small searches with given results of the trials, without training."""

from collections.abc import Sequence
from pathlib import Path

from tune_jobs.space import load_space
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.trial_study import Decision, TrialStudy

DATA = {"name": "digits", "num_images": {"train": 1150, "validation": 287, "test": 360}, "num_classes": 10}


def write_search(
    output: Path,
    text: str,
    values: Sequence[float],
    *,
    storage: str | None = None,
    digest: str = "d" * 64,
) -> SearchStudy:
    """Return the study of a search with one complete trial for each value, in a folder with its name."""
    output.mkdir(exist_ok=True)
    path = output / "space.yaml"
    path.write_text(text)
    space = load_space(path)
    folder = output / space.name
    folder.mkdir(exist_ok=True)
    study = SearchStudy(storage or f"sqlite:///{folder}/study.db", space, data_digest=digest)
    study.set_num_trials(len(values))
    study.record_launch(data=DATA, environment={}, commit=None)
    for value in values:
        train(study, value)
    return study


def train(study: TrialStudy, value: float) -> None:
    """Run the next trial, which reports this value after each epoch."""
    attempt = study.next_attempt()
    assert attempt is not None
    for epoch in range(attempt.config.optim.epochs + 1):
        metrics = {"val/top1": value, "cost/seconds": 60.0 * epoch}
        if study.report(attempt.number, attempt.attempt, epoch, metrics) is Decision.STOP:
            break
    study.end_attempt(attempt.number, attempt.attempt)
