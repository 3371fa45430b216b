"""Entries of an MLflow run: pure functions from a trial's record to tags, parameters and metrics.

Tags of this project start with `selfcon.`; tags that start with `mlflow.` are read by the MLflow UI.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tune_jobs.study.records import EpochRecord, State, TrialRecord
from tune_jobs.wording import parameter_text

SEARCH_TAG = "selfcon.search"
STUDY_TAG = "selfcon.study_started_ms"  # distinguishes a search from an earlier one with the same name
TRIAL_TAG = "selfcon.trial"
SEED_TAG = "selfcon.seed"  # of a repetition: the index of its seed
SYNCED_TAG = "selfcon.synced_epoch"
DATASET_TAG = "selfcon.data_digest"
FILES_TAG = "selfcon.files"  # the SHA-256 of the stored files
STATE_TAG = "selfcon.state"
REASON_TAG = "selfcon.reason"
PARAMETERS_TAG = "selfcon.parameters"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
VIEW_TAG_PREFIX = "mlflow.sharedViewState."

# One log_batch call may have 1000 entries, of which 100 parameters and 100 tags (mlflow.utils.validation);
# the rest is for metrics.
MAX_POINTS_PER_BATCH = 800
MAX_TAG_LENGTH = 8000

_STATUS = {
    State.RUNNING: "RUNNING",
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.FAIL: "FAILED",
}


def experiment_tags(*, metric: str) -> dict[str, str]:
    """Return the tags for the pages of the experiment: its primary metric, and its kind, model training."""
    return {
        "mlflow.experiment.primaryMetric.name": metric,
        "mlflow.experimentKind": "custom_model_development",
    }


def run_status(state: State) -> str:
    """Return the MLflow status of a trial."""
    return _STATUS[state]


def has_run(record: TrialRecord) -> bool:
    """Return whether a trial has a run: if it counts and was sampled."""
    return record.counts and record.config is not None


def run_name(record: TrialRecord) -> str:
    """Return the name of a run: `trial-0007`, or `trial-0007-seed-1`."""
    return f"trial-{record.name}"


def identity_tags(record: TrialRecord) -> dict[str, str]:
    """Return the tags that identify the trial and the seed of a run."""
    seed = {} if record.confirms is None else {SEED_TAG: str(record.seed_index)}
    return {TRIAL_TAG: str(record.trial)} | seed


def run_key(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Return the key of a run within a search; None for a run that a user added."""
    return (tags[TRIAL_TAG], tags.get(SEED_TAG, "0")) if TRIAL_TAG in tags else None


def run_parameters(record: TrialRecord) -> dict[str, str]:
    """Return the complete TrainConfig by dotted name, with values spelled as in a space file."""
    return {name: parameter_text(value) for name, value in (record.config or {}).items()}


def run_tags(record: TrialRecord) -> dict[str, str]:
    """Return the tags of a run: state, number of attempts, searched parameters, and why it ended."""
    tags = {
        STATE_TAG: str(record.state),
        "selfcon.attempts": str(record.attempts),
        PARAMETERS_TAG: names_text(record.parameters),
    }
    if record.reason is not None:
        tags[REASON_TAG] = str(record.reason)
    if record.message is not None:
        tags["selfcon.message"] = record.message[:MAX_TAG_LENGTH]
    return tags


def names_text(names: Iterable[str]) -> str:
    """Return parameter names in one line, for the tag that distinguishes them from fixed ones."""
    return ", ".join(sorted(names))[:MAX_TAG_LENGTH]


def epoch_batches(record: TrialRecord, *, after: int) -> Iterator[tuple[EpochRecord, ...]]:
    """Yield the epochs after `after` in order, in batches that fit one call (at least one epoch each)."""
    batch: list[EpochRecord] = []
    num_points = 0
    for epoch in record.epochs:
        if epoch.epoch <= after:
            continue
        if batch and num_points + len(epoch.metrics) > MAX_POINTS_PER_BATCH:
            yield tuple(batch)
            batch, num_points = [], 0
        batch.append(epoch)
        num_points += len(epoch.metrics)
    if batch:
        yield tuple(batch)


def newest_ms(records: Sequence[TrialRecord]) -> int:
    """Return the time of the newest event of the trials, in milliseconds since 1970."""
    times = [record.finished_ms or record.started_ms for record in records]
    return max(times + [epoch.timestamp_ms for record in records for epoch in record.epochs], default=0)


def table_view(*, metric: str, parameters: Iterable[str]) -> str:
    """Return the configuration of the runs table of a search, as a shared view of the MLflow UI.

    Columns: name, time, the objective, each searched parameter, state and reason. The format is the one that
    "Share" stores in MLflow 3.17; a page that does not understand it shows its default columns.
    """
    widths = {
        "attributes.`Run Name`": 150,
        "attributes.`Created`": 140,
        f"metrics.`{metric}`": max(110, _width_px(metric)),
        **{f"params.`{name}`": _width_px(name) for name in sorted(parameters)},
        f"tags.`{STATE_TAG}`": 110,
        f"tags.`{REASON_TAG}`": 120,
    }
    return json.dumps({"selectedColumns": list(widths), "columnOrder": list(widths), "columnWidths": widths})


def page_query(search: str) -> str:
    """Return the query of the runs page that opens the table of a search (see `table_view`)."""
    return f"workflowType=machine_learning&viewStateShareKey={search}"


def _width_px(heading: str) -> int:
    return 30 + 7 * len(heading)


def missing(wanted: Mapping[str, str], present: Mapping[str, str]) -> dict[str, str]:
    """Return the entries of `wanted` that are missing in `present` or have another value there."""
    return {name: value for name, value in wanted.items() if present.get(name) != value}
