"""Runs of one MLflow experiment, with their current content: only differences are sent."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tune_jobs.study.records import EpochRecord
from tune_jobs.tracking.run_entries import DATASET_TAG, FILES_TAG, SYNCED_TAG, missing
from tune_jobs.tracking.server import artifact_errors

if TYPE_CHECKING:
    from mlflow import MlflowClient
    from mlflow.entities import Run

_PAGE = 1000
MAX_DIGEST_LENGTH = 36  # of a data set, in MLflow's databases


@dataclass(frozen=True, kw_only=True)
class TrackedDataset:
    """Data set of a run in MLflow: its source, and as `profile` its splits, classes and image size."""

    name: str
    digest: str
    source: str
    class_names: tuple[str, ...]
    profile: Mapping[str, Any]


@dataclass
class KnownRun:
    """Current content of a run in MLflow. `epoch` is the newest epoch that was sent, or -1."""

    run_id: str
    status: str
    end_ms: int | None
    epoch: int
    parameters: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, run: Run) -> KnownRun:
        """Return the content of a run returned by MLflow."""
        return cls(
            run_id=run.info.run_id,
            status=run.info.status,
            end_ms=run.info.end_time,
            epoch=int(run.data.tags.get(SYNCED_TAG, -1)),
            parameters=dict(run.data.params),
            tags=dict(run.data.tags),
        )


class ExperimentRuns:
    """Finds, creates, updates and ends the runs of an experiment. Does not catch errors of MLflow."""

    def __init__(self, client: MlflowClient, experiment_id: str) -> None:
        self._client, self._experiment_id = client, experiment_id

    def get(self, run_id: str) -> KnownRun | None:
        """Return a run of the experiment, None if it does not exist or is deleted."""
        return next(self._search(f"attributes.run_id = '{run_id}'"), None)

    def tagged(self, tags: Mapping[str, str]) -> list[KnownRun]:
        """Return the runs with these tags that are not deleted, oldest first."""
        return list(self._search(" and ".join(f"tags.`{name}` = '{value}'" for name, value in tags.items())))

    def _search(self, condition: str) -> Iterator[KnownRun]:
        token: str | None = None
        while token != "":
            page = self._client.search_runs(
                [self._experiment_id],
                condition,
                max_results=_PAGE,
                order_by=["attributes.start_time ASC"],
                page_token=token,
            )
            yield from map(KnownRun.of, page)
            token = page.token or ""

    def create(self, *, name: str, start_ms: int, tags: Mapping[str, str]) -> KnownRun:
        """Create a run in status RUNNING. Not idempotent."""
        return KnownRun.of(
            self._client.create_run(self._experiment_id, start_time=start_ms, run_name=name, tags=dict(tags))
        )

    def delete(self, run: KnownRun) -> None:
        """Mark a run as deleted in MLflow; it can be restored."""
        self._client.delete_run(run.run_id)

    def add_tags(self, run: KnownRun, tags: Mapping[str, str]) -> None:
        """Set the tags that are missing or have another value."""
        self._log(run, points=[], parameters={}, tags=tags)

    def add_parameters(self, run: KnownRun, parameters: Mapping[str, str]) -> None:
        """Set the missing parameters. Existing ones never change."""
        self._log(run, points=[], parameters=parameters, tags={})

    def add_epochs(self, run: KnownRun, epochs: Iterable[EpochRecord]) -> None:
        """Send the metrics of some epochs, together with the tag of the newest epoch sent.

        MLflow stores equal points (metric, step, time and value) once, so a repetition is harmless.
        """
        epochs = list(epochs)
        points = [(name, value, e.timestamp_ms, e.epoch) for e in epochs for name, value in e.metrics.items()]
        newest = max(epoch.epoch for epoch in epochs)
        self._log(run, points=points, parameters={}, tags={SYNCED_TAG: str(newest)})
        run.epoch = newest

    def add_result(self, run: KnownRun, metrics: Mapping[str, float], *, timestamp_ms: int) -> None:
        """Send metrics that belong to no epoch, with step 0."""
        points = [(name, value, timestamp_ms, 0) for name, value in metrics.items()]
        self._log(run, points=points, parameters={}, tags={})

    def _log(
        self,
        run: KnownRun,
        *,
        points: list[tuple[str, float, int, int]],
        parameters: Mapping[str, str],
        tags: Mapping[str, str],
    ) -> None:
        from mlflow.entities import Metric, Param, RunTag

        parameters = {name: value for name, value in parameters.items() if name not in run.parameters}
        tags = missing(tags, run.tags)
        if points or parameters or tags:
            self._client.log_batch(
                run.run_id,
                metrics=[Metric(*point) for point in points],
                params=[Param(name, value) for name, value in parameters.items()],
                tags=[RunTag(name, value) for name, value in tags.items()],
            )
            run.parameters.update(parameters)
            run.tags.update(tags)

    def add_dataset(self, run: KnownRun, dataset: TrackedDataset) -> None:
        """Add the data set of a run, unless it has one."""
        from mlflow.entities import Dataset, DatasetInput, InputTag

        if run.tags.get(DATASET_TAG) == dataset.digest:
            return
        entity = Dataset(
            name=dataset.name,
            digest=dataset.digest[:MAX_DIGEST_LENGTH],
            source_type="local",
            source=json.dumps({"uri": dataset.source}),
            profile=json.dumps({**dataset.profile, "digest": dataset.digest}),
        )
        context = InputTag("mlflow.data.context", "training")
        self._client.log_inputs(run.run_id, datasets=[DatasetInput(entity, [context])])
        self.add_tags(run, {DATASET_TAG: dataset.digest})

    def add_files(self, run: KnownRun, files: Mapping[str, bytes]) -> None:
        """Store files by their paths, unless they are stored already, as recorded in a tag."""
        digest = _digest_of_files(files)
        if not files or run.tags.get(FILES_TAG) == digest:
            return
        with tempfile.TemporaryDirectory() as folder:
            for name, content in files.items():
                path = Path(folder, name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
            with artifact_errors():
                self._client.log_artifacts(run.run_id, folder)
        self.add_tags(run, {FILES_TAG: digest})

    def set_status(self, run: KnownRun, status: str, end_ms: int | None) -> None:
        """Set the status of the run and its end time `end_ms`, which is None if it is RUNNING."""
        if run.status == status and end_ms in (None, run.end_ms):
            return
        if status == "RUNNING":
            self._client.update_run(run.run_id, status=status)
        else:
            self._client.set_terminated(run.run_id, status, end_ms)
        run.status, run.end_ms = status, end_ms


def _digest_of_files(files: Mapping[str, bytes]) -> str:
    parts = (f"{name} {hashlib.sha256(content).hexdigest()}\n" for name, content in sorted(files.items()))
    return hashlib.sha256("".join(parts).encode()).hexdigest()
