"""What an MLflow run shows of a trial: pure functions from the trial's record to names and values.

Tags of ours begin with `selfcon.`; those that begin with `mlflow.` are read by MLflow's own pages.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tune_jobs.study.records import EpochRecord, State, TrialRecord
from tune_jobs.wording import parameter_text

SEARCH_TAG = "selfcon.search"
STUDY_TAG = "selfcon.study_started_ms"  # tells a search from an earlier one of the same name
TRIAL_TAG = "selfcon.trial"
SEED_TAG = "selfcon.seed"  # of a run of the confirmation: which seed of its trial it is
SYNCED_TAG = "selfcon.synced_epoch"
DATASET_TAG = "selfcon.data_digest"
FILES_TAG = "selfcon.files"  # the SHA-256 of the files that are there
STATE_TAG = "selfcon.state"
REASON_TAG = "selfcon.reason"
PARAMETERS_TAG = "selfcon.parameters"
PARENT_TAG = "mlflow.parentRunId"
NOTE_TAG = "mlflow.note.content"
VIEW_TAG_PREFIX = "mlflow.sharedViewState."

# Limits of one log_batch call are 1000 entries in all, 100 parameters and 100 tags
# (mlflow.utils.validation): what the two leave is for metrics.
MAX_POINTS_PER_BATCH = 800
MAX_TAG_LENGTH = 8000

_STATUS = {
    State.RUNNING: "RUNNING",
    State.COMPLETE: "FINISHED",
    State.PRUNED: "KILLED",
    State.FAIL: "FAILED",
}


def experiment_tags(*, metric: str) -> dict[str, str]:
    """Return what the experiment's pages go by: the objective, and that models are trained here."""
    return {
        "mlflow.experiment.primaryMetric.name": metric,
        "mlflow.experimentKind": "custom_model_development",
    }


def run_status(state: State) -> str:
    """Return MLflow's word for the state of a trial."""
    return _STATUS[state]


def has_run(record: TrialRecord) -> bool:
    """Return whether a trial is shown: it counts, and it was drawn."""
    return record.counts and record.config is not None


def run_name(record: TrialRecord) -> str:
    """Return the name of a run: `trial-0007`, or `trial-0007-seed-1`."""
    return f"trial-{record.name}"


def identity_tags(record: TrialRecord) -> dict[str, str]:
    """Return the tags that say which trial, and which seed of it, a run shows."""
    seed = {} if record.confirms is None else {SEED_TAG: str(record.seed_index)}
    return {TRIAL_TAG: str(record.trial)} | seed


def run_key(tags: Mapping[str, str]) -> tuple[str, str] | None:
    """Return what tells one run of a search from another; None for a run that somebody put beside ours."""
    return (tags[TRIAL_TAG], tags.get(SEED_TAG, "0")) if TRIAL_TAG in tags else None


def run_parameters(record: TrialRecord) -> dict[str, str]:
    """Return the complete TrainConfig by dotted name, each value as the search-space file would have it."""
    return {name: parameter_text(value) for name, value in (record.config or {}).items()}


def run_tags(record: TrialRecord) -> dict[str, str]:
    """Return how a trial stands: state, attempts, which parameters the search chose, and why it ended."""
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
    """Return parameter names in one line, as the tag that tells them from the fixed ones has them."""
    return ", ".join(sorted(names))[:MAX_TAG_LENGTH]


def epoch_batches(record: TrialRecord, *, after: int) -> Iterator[tuple[EpochRecord, ...]]:
    """Yield the epochs beyond `after` in order, as many at a time as one call may carry (at least one)."""
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
    """Return when the newest thing that is known of the trials happened, in milliseconds since 1970."""
    times = [record.finished_ms or record.started_ms for record in records]
    return max(times + [epoch.timestamp_ms for record in records for epoch in record.epochs], default=0)


def table_view(*, metric: str, parameters: Iterable[str]) -> str:
    """Return the runs table that shows a search best, as MLflow's page reads it from a shared view.

    Columns: name, when, the objective, each parameter that varies, state and reason. Read off what "Share" of
    MLflow 3.17 stores; a page that does not understand it shows its own default columns.
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
    """Return the entries of `wanted` that `present` lacks or has with another value."""
    return {name: value for name, value in wanted.items() if present.get(name) != value}
