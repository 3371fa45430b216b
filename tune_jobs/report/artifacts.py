"""The files of the runs in MLflow, path to content: pure functions of the study's records."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import yaml

from selfcon.config import TrainConfig
from selfcon.evaluation.confusion import Confusion
from tune_jobs.report import figures
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

Files = dict[str, bytes]
Makers = dict[str, Callable[[], bytes | None]]
BEST, MAX_NAME_LENGTH = "-best", 64
NOT_MADE = ".txt"  # ends the name of what says why a file could not be made


def trial_files(record: TrialRecord, class_names: Sequence[str]) -> Files:
    """Return the files of a trial that has ended: configuration, accuracies by exit, confusion matrix."""
    assert record.config is not None
    config = record.config
    makers: Makers = {
        "config.yaml": lambda: _yaml(TrainConfig.from_flat(config).model_dump(mode="json")),
        "exits.png": lambda: figures.exits_accuracies(record),
    }
    if record.confusion is not None:
        confusion, epoch = Confusion.from_json(record.confusion), record.confusion["epoch"]
        title = f"trial {record.label}, validation, after epoch {epoch}"
        makers |= {
            "confusion_matrix.png": lambda: figures.confusion_matrix(confusion, class_names, title=title),
            "confusion_matrix.csv": lambda: _confusion_table(confusion, class_names),
        }
    return made(makers)


def made(makers: Makers) -> Files:
    """Make each file; one that cannot be made is a line that says why: it must not stop a search."""
    files = {}
    for name, make in makers.items():
        try:
            content = make()
        except Exception as error:
            files[f"{name}{NOT_MADE}"] = f"{name} could not be made: {error!r}\n".encode()
            continue
        if content is not None:
            files[name] = content
    return files


def best_space(snapshot: Snapshot, winner: TrialRecord) -> bytes:
    """Return a search-space file of one trial, the winner's configuration: it runs as it is."""
    assert winner.config is not None
    train = TrainConfig.from_flat(winner.config).model_dump(mode="json")
    seed = train.pop("seed")
    objectives = [objective.model_dump() for objective in snapshot.objectives]
    so_far = "" if snapshot.is_over else " so far"
    return _yaml(
        {
            "name": f"{snapshot.name[: MAX_NAME_LENGTH - len(BEST)]}{BEST}",
            "description": f"The best of the search {snapshot.name}{so_far}: trial {winner.label}.",
            "train": train,
            "space": {"seed": {"choices": [seed]}},
            "objective": objectives[0] if len(objectives) == 1 else objectives,
            "search": {"num_trials": 1, "sampler": "brute_force"},
            "trial": dict(snapshot.trial),
            "tracking": dict(snapshot.tracking),
        }
    )


def trials_table(records: Sequence[TrialRecord]) -> bytes:
    """Return the trials as CSV: how each ended, its parameters and the metrics of its last epoch."""
    parameters = sorted({name for record in records for name in record.parameters})
    metrics = sorted({name for record in records if record.epochs for name in record.epochs[-1].metrics})
    header = ["trial", "state", "reason", "attempts", "epochs", "started_ms", "finished_ms", "value"]
    rows = [
        [
            record.label, str(record.state), record.reason, record.attempts, max(record.last_epoch, 0),
            record.started_ms, record.finished_ms, record.value,
            *(_cell(record.parameters.get(name)) for name in parameters),
            *((record.epochs[-1].metrics if record.epochs else {}).get(name) for name in metrics),
        ]
        for record in records
    ]  # fmt: skip
    return _csv([*header, *parameters, *metrics], rows)


def _confusion_table(confusion: Confusion, class_names: Sequence[str]) -> bytes:
    """The diagonal, then the pairs that were confused, the most frequent first."""
    right = [
        (class_names[label], class_names[label], count, confusion.totals[label])
        for label, count in enumerate(confusion.correct)
    ]
    wrong = [
        (class_names[true], class_names[named], count, confusion.totals[true])
        for true, named, count in confusion.pairs
    ]
    return _csv(["class", "named", "images", "images_of_the_class"], [*right, *wrong])


def _cell(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def _yaml(content: Mapping[str, Any]) -> bytes:
    return bytes(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), "utf-8")
