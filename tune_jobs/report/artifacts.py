"""Artifacts of the MLflow runs, as a mapping of path to content: pure functions of the study's records."""

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
Generators = dict[str, Callable[[], bytes | None]]
BEST, MAX_NAME_LENGTH = "-best", 64
ERROR_SUFFIX = ".txt"  # of the file that explains why another one could not be generated


def trial_files(record: TrialRecord, class_names: Sequence[str]) -> Files:
    """Return the files of an ended trial: configuration, accuracy of each exit, confusion matrix."""
    assert record.config is not None
    config = record.config
    generators: Generators = {
        "config.yaml": lambda: _yaml(TrainConfig.from_flat(config).model_dump(mode="json")),
        "exits.png": lambda: figures.exits_accuracies(record),
    }
    if record.confusion is not None:
        confusion, epoch = Confusion.from_json(record.confusion), record.confusion["epoch"]
        title = f"trial {record.label}, validation, after epoch {epoch}"
        generators |= {
            "confusion_matrix.png": lambda: figures.confusion_matrix(confusion, class_names, title=title),
            "confusion_matrix.csv": lambda: _confusion_table(confusion, class_names),
        }
    return generate(generators)


def generate(generators: Generators) -> Files:
    """Generate each file; one that fails becomes a text file with the error: it must not stop a search."""
    files = {}
    for name, generator in generators.items():
        try:
            content = generator()
        except Exception as error:
            files[f"{name}{ERROR_SUFFIX}"] = f"{name} could not be generated: {error!r}\n".encode()
            continue
        if content is not None:
            files[name] = content
    return files


def best_space(snapshot: Snapshot, winner: TrialRecord) -> bytes:
    """Return a search-space file with the winner's configuration as its only trial; it runs unchanged."""
    assert winner.config is not None
    train = TrainConfig.from_flat(winner.config).model_dump(mode="json")
    seed = train.pop("seed")
    objectives = [objective.model_dump() for objective in snapshot.objectives]
    so_far = "" if snapshot.is_over else " so far"
    return _yaml(
        {
            "name": f"{snapshot.name[: MAX_NAME_LENGTH - len(BEST)]}{BEST}",
            "description": f"Best trial of the search {snapshot.name}{so_far}: trial {winner.label}.",
            "train": train,
            "space": {"seed": {"choices": [seed]}},
            "objective": objectives[0] if len(objectives) == 1 else objectives,
            "search": {"num_trials": 1, "sampler": "brute_force"},
            "trial": dict(snapshot.trial),
            "tracking": dict(snapshot.tracking),
        }
    )


def trials_table(records: Sequence[TrialRecord]) -> bytes:
    """Return the trials as CSV: final state, parameters, and the metrics of the last epoch."""
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
    """The confusion matrix as CSV: the diagonal, then the confused pairs, most frequent first."""
    correct = [
        (class_names[label], class_names[label], count, confusion.totals[label])
        for label, count in enumerate(confusion.correct)
    ]
    wrong = [
        (class_names[true], class_names[predicted], count, confusion.totals[true])
        for true, predicted, count in confusion.pairs
    ]
    return _csv(["class", "named", "images", "images_of_the_class"], [*correct, *wrong])


def _cell(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _csv(header: Sequence[str], rows: Sequence[Sequence[Any]]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue().encode()


def _yaml(content: Mapping[str, Any]) -> bytes:
    return bytes(yaml.safe_dump(dict(content), sort_keys=False, allow_unicode=True), "utf-8")
