"""Synchronise MLflow with the study: a parent run for the search, a child run for each trial and repetition.

The study is the source of truth. The first call in a process, and the first one after a failure, reads the
runs of MLflow; after that only new records are sent. Does not use global state of MLflow.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from tune_jobs.report.artifacts import trial_files
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.tracking import run_entries as entries
from tune_jobs.tracking.runs import ExperimentRuns, KnownRun, TrackedDataset
from tune_jobs.tracking.server import resolve_uri, shown_uri, tracking_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Experiment

RunMemory = Callable[[TrialRecord, str], None]


@dataclass
class _SearchRuns:
    """Runs of a search in MLflow."""

    runs: ExperimentRuns
    parent: KnownRun
    trials: dict[tuple[str, str], KnownRun]
    newest_ms: int = 0


class Tracker:
    """Runs of one search in MLflow. Not thread-safe.

    Every run gets `tags` and `dataset`; `metric` is the objective. Nothing is written before the first
    `sync`.
    """

    def __init__(
        self,
        *,
        uri: str | None,
        experiment: str,
        search: str,
        description: str,
        tags: Mapping[str, str],
        metric: str,
        dataset: TrackedDataset | None = None,
        experiment_id: str | None = None,
    ) -> None:
        self._dataset = dataset
        self.uri = resolve_uri(uri)
        self._experiment_name, self._search, self._description = experiment, search, description
        self._tags, self._metric = dict(tags), metric
        self._experiment: Experiment | None = None
        self._experiment_id = experiment_id
        self._runs: _SearchRuns | None = None
        self._is_stale = True  # None: the runs of MLflow must be read first

    @property
    def where(self) -> str:
        """Link to the runs, or the command that serves them."""
        return runs_page(self.uri, search=self._search, experiment_id=self._experiment_id)

    @property
    def page(self) -> str:
        """`where` without the query of the table view, to fit one line."""
        return self.where.partition("/runs?")[0]

    def sync(
        self, records: Sequence[TrialRecord], *, remember_run: RunMemory, max_files: int | None = None
    ) -> None:
        """Send missing runs, metrics and files; `remember_run(record, run_id)` is called for each new run.

        `records` are all trials of the study by number, then their repetitions. Idempotent, also across
        processes: no run and no point is created twice. After all metrics, files are added to at most
        `max_files` runs per call. Raises `TrackingError` if MLflow fails; the next call sends the rest.
        """
        tracked = [record for record in records if entries.has_run(record)]
        if not tracked:
            return
        with tracking_errors(self.uri):
            if self._runs is None or self._is_stale:
                self._runs = self._open(records)
            self._is_stale = True  # until everything below was sent
            for record in tracked:
                self._sync_run(record, self._runs, remember_run)
            self._describe(tracked, self._runs)
            self._is_stale = False
            self._attach(tracked, self._runs, max_files)

    def close(
        self,
        status: Literal["FINISHED", "KILLED", "FAILED"],
        *,
        metrics: Mapping[str, float],
        summary: str,
        files: Mapping[str, bytes] | None = None,
    ) -> None:
        """End the run of the search, with its result as metrics and files and its summary as description.

        Unfinished trials end as KILLED with state INTERRUPTED, until a later `sync` resumes them. A search
        without trials has no run. Raises `TrackingError`.
        """
        known = self._runs
        if known is None:
            return
        with tracking_errors(self.uri):
            for run in known.trials.values():
                if run.status == "RUNNING":
                    known.runs.add_tags(run, {entries.STATE_TAG: "INTERRUPTED"})
                    known.runs.set_status(run, "KILLED", known.newest_ms)
            # The time is that of the newest record, so that a repetition is the same point.
            known.runs.add_result(known.parent, metrics, timestamp_ms=known.newest_ms)
            known.runs.add_tags(known.parent, {entries.NOTE_TAG: summary[: entries.MAX_TAG_LENGTH]})
            known.runs.add_files(known.parent, files or {})
            known.runs.set_status(known.parent, status, known.newest_ms)
        self._is_stale = True  # so that a later sync opens it again

    # --- reading MLflow ------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> MlflowClient:
        from mlflow import MlflowClient

        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def _open(self, records: Sequence[TrialRecord]) -> _SearchRuns:
        """Find or create the experiment and the parent run, and find the runs of trials."""
        self._experiment = self._open_experiment()
        runs = ExperimentRuns(self._client, self._experiment.experiment_id)
        identity = {entries.SEARCH_TAG: self._search, entries.STUDY_TAG: str(records[0].started_ms)}
        parent = _find_parent(runs, records, identity) or runs.create(
            name=self._search,
            start_ms=records[0].started_ms,
            tags={**identity, entries.NOTE_TAG: self._description},
        )
        runs.add_tags(parent, self._tags)
        if self._dataset is not None:
            runs.add_dataset(parent, self._dataset)
        runs.set_status(parent, "RUNNING", None)
        return _SearchRuns(runs, parent, _find_trials(runs, parent, records))

    def _open_experiment(self) -> Experiment:
        experiment = self._client.get_experiment_by_name(self._experiment_name)
        if experiment is None:
            created = self._client.create_experiment(self._experiment_name)
            experiment = self._client.get_experiment(created)
        wanted = entries.experiment_tags(metric=self._metric)
        for name in wanted.keys() - experiment.tags.keys():
            self._client.set_experiment_tag(experiment.experiment_id, name, wanted[name])
        self._experiment_id = str(experiment.experiment_id)
        return experiment

    # --- sending differences -------------------------------------------------------------------------------

    def _sync_run(self, record: TrialRecord, known: _SearchRuns, remember_run: RunMemory) -> None:
        """Send the missing entries of one run."""
        identity, key = entries.identity_tags(record), _key_of(record)
        run = known.trials.get(key)
        if run is None:
            run = known.trials[key] = known.runs.create(
                name=entries.run_name(record),
                start_ms=record.started_ms,
                tags={
                    entries.SEARCH_TAG: self._search,
                    **identity,
                    entries.PARENT_TAG: known.parent.run_id,
                    **self._tags,
                    **entries.run_tags(record),
                },
            )
        if record.mlflow_run != run.run_id:
            remember_run(record, run.run_id)
        known.runs.add_parameters(run, entries.run_parameters(record))
        for epochs in entries.epoch_batches(record, after=run.epoch):
            known.runs.add_epochs(run, epochs)
        known.runs.add_tags(run, entries.run_tags(record))
        end_ms = None if record.state == State.RUNNING else record.finished_ms
        known.runs.set_status(run, entries.run_status(record.state), end_ms)

    def _attach(self, records: Sequence[TrialRecord], known: _SearchRuns, max_files: int | None) -> None:
        """Add the data set of runs, and the files of finished trials."""
        if self._dataset is None:
            return
        num_left = len(records) if max_files is None else max_files
        for record in records:
            run = known.trials[_key_of(record)]
            known.runs.add_dataset(run, self._dataset)
            if num_left and record.state != State.RUNNING and entries.FILES_TAG not in run.tags:
                known.runs.add_files(run, trial_files(record, self._dataset.class_names))
                num_left -= 1

    def _describe(self, records: Sequence[TrialRecord], known: _SearchRuns) -> None:
        """Record which parameters vary, as tag of the parent run and as columns of the runs table."""
        assert self._experiment is not None
        known.newest_ms = entries.newest_ms(records)
        varied = {name for record in records for name in record.parameters}
        known.runs.add_tags(known.parent, {entries.PARAMETERS_TAG: entries.names_text(varied)})
        name = entries.VIEW_TAG_PREFIX + self._search
        view = entries.table_view(metric=self._metric, parameters=varied)
        if self._experiment.tags.get(name) != view:
            self._client.set_experiment_tag(self._experiment.experiment_id, name, view)
            self._experiment.tags[name] = view


def runs_page(uri: str, *, search: str, experiment_id: str | None = None) -> str:
    """Return the link to the runs of a search, or the command that serves them."""
    page = "/#/experiments"
    if experiment_id is not None:
        page += f"/{experiment_id}/runs?{entries.page_query(search)}"
    if uri.startswith("http"):
        return shown_uri(uri).rstrip("/") + page
    store = "" if uri == resolve_uri(None) else f" --backend-store-uri {shown_uri(uri)}"
    return f"mlflow ui{store}, then http://127.0.0.1:5000{page}"


def _key_of(record: TrialRecord) -> tuple[str, str]:
    key = entries.run_key(entries.identity_tags(record))
    assert key is not None
    return key


def _find_parent(
    runs: ExperimentRuns, records: Sequence[TrialRecord], identity: Mapping[str, str]
) -> KnownRun | None:
    """The parent of the newest run recorded in the study, else the run with the tags of this study."""
    remembered = next((record.mlflow_run for record in reversed(records) if record.mlflow_run), None)
    child = runs.get(remembered) if remembered else None
    parent = runs.get(child.tags.get(entries.PARENT_TAG, "")) if child else None
    found = [run for run in runs.tagged(identity) if parent is None or run.run_id != parent.run_id]
    if parent is None and found:
        parent = found.pop(0)
    for duplicate in found:  # created twice by a retried request
        runs.delete(duplicate)
    return parent


def _find_trials(
    runs: ExperimentRuns, parent: KnownRun, records: Sequence[TrialRecord]
) -> dict[tuple[str, str], KnownRun]:
    """Existing runs of trials. Of duplicates, the recorded one stays, else the one with more epochs."""
    remembered = {record.mlflow_run for record in records}
    found: dict[tuple[str, str], KnownRun] = {}
    for run in runs.tagged({entries.PARENT_TAG: parent.run_id}):
        key = entries.run_key(run.tags)
        if key is None:
            continue  # a run that a user added
        other = found.get(key, run)
        duplicate, found[key] = sorted((run, other), key=lambda one: (one.run_id in remembered, one.epoch))
        if duplicate is not found[key]:
            runs.delete(duplicate)
    return found
