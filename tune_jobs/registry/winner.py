"""Winner of a search, prepared for registration: its network, its test metrics, its MLflow model.

Each step first looks for the result of an interrupted call, so that nothing is created twice.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from selfcon.config import TrainConfig
from tune_jobs.errors import SearchError
from tune_jobs.provenance import commit_of_source
from tune_jobs.registry.model_card import CardFacts, model_card
from tune_jobs.study.records import TrialRecord
from tune_jobs.tracking.run_entries import SEARCH_TAG, TRIAL_TAG
from tune_jobs.tracking.server import artifact_errors
from tune_jobs.wording import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel, Metric, Run

    from selfcon.checkpoints.state import TrainingState
    from selfcon.data.dataset import ImageDataset
    from selfcon.evaluation.evaluate import Evaluation
    from selfcon.evaluation.probe import Probes
    from selfcon.model import SelfConEncoder

TOP1 = "val/top1"
COMMIT_TAG = "selfcon.commit"
PACKAGE_TAG = "selfcon.sha256"  # of all files of the model
ENCODER_TAG = "selfcon.encoder_sha256"  # of encoder.json, which has the hashes of the other encoder files
MODEL_NAME = "encoder"  # on the run's page; the registered model has another name


@dataclass(frozen=True, kw_only=True)
class Winner:
    """Trial with everything needed for its registration."""

    client: MlflowClient
    run: Run
    registered_model: str
    search: str
    record: TrialRecord
    config: TrainConfig
    dataset: ImageDataset
    encoder: SelfConEncoder

    @property
    def top1(self) -> float:
        """Final val/top1 of the trial, by which encoders are compared. Raises `SearchError` if missing."""
        epochs = self.record.epochs
        if not epochs or TOP1 not in epochs[-1].metrics:
            raise SearchError(f"trial {self.record.number} has no {TOP1}, by which encoders are compared")
        return epochs[-1].metrics[TOP1]

    @cached_property
    def evaluation(self) -> Evaluation:
        """Evaluation on the test set, with its probes."""
        from selfcon.evaluation.evaluate import evaluate_encoder

        return evaluate_encoder(self.encoder, self.dataset, config=self.config, split="test")

    @property
    def probes(self) -> Probes:
        """The probes of the exits, without another evaluation on the test set."""
        from selfcon.evaluation.evaluate import probes_of

        if "evaluation" in vars(self) and self.evaluation.probes is not None:
            return self.evaluation.probes
        return probes_of(self.encoder, self.dataset, config=self.config)

    @property
    def num_images(self) -> dict[str, int]:
        """Number of images of each split, by the prefix of its metrics."""
        parts = {"train": self.dataset.train, "val": self.dataset.validation, "test": self.dataset.test}
        return {name: len(part) for name, part in parts.items()}

    def card(self, metrics: Mapping[str, float]) -> str:
        """Return the model card with these metrics."""
        return model_card(
            CardFacts(
                model=self.registered_model,
                search=self.search,
                trial=self.record.number,
                commit=commit_of_source(),
                dataset=self.dataset.name,
                data_digest=self.dataset.digest,
                image_size=self.dataset.image_size,
                class_names=[printable(name) for name in self.dataset.class_names],
                num_images=self.num_images,
                feature_dim=self.encoder.feature_dim,
                config=self.config.flat(),
                metrics=metrics,
            )
        )

    @property
    def tags(self) -> dict[str, str]:
        """Origin of the encoder: search, trial, and commit if known."""
        commit = commit_of_source()
        return {
            SEARCH_TAG: self.search,
            TRIAL_TAG: str(self.record.number),
            **({COMMIT_TAG: commit} if commit else {}),
        }


def load_winner(
    client: MlflowClient,
    *,
    run_id: str,
    registered_model: str,
    search: str,
    record: TrialRecord,
    checkpoint: Path | TrainingState,
    config: TrainConfig,
) -> Winner:
    """Return the trial with its data set and the network of its checkpoint. Raises `CheckpointError`."""
    import torch

    from selfcon.data.dataset import load_dataset
    from selfcon.export import encoder_of_checkpoint

    dataset = load_dataset(config.data)
    encoder = encoder_of_checkpoint(checkpoint, config=config, dataset=dataset)
    encoder.to("cuda" if torch.cuda.is_available() else "cpu")
    return Winner(
        client=client,
        run=client.get_run(run_id),
        registered_model=registered_model,
        search=search,
        record=record,
        config=config,
        dataset=dataset,
        encoder=encoder,
    )


def stored_model(winner: Winner, *, metrics: dict[str, float]) -> LoggedModel:
    """Return the MLflow model of the trial's encoder: complete, verified and linked to the trial's run.

    `metrics` are on its page and in its files; its tags have the SHA-256 of the files. Raises `SearchError`
    if the exported encoder does not give the features of the trained one, or if the downloaded files differ
    from the uploaded ones.
    """
    from mlflow.entities import LoggedModelStatus

    model = _logged_model(winner)
    if model.status != LoggedModelStatus.READY:
        _upload(winner, model, metrics)
    return winner.client.get_logged_model(model.model_id)


def metrics_on_test_set(winner: Winner) -> dict[str, float]:
    """Return the test metrics; from the run if it has them, so that the test set is evaluated once."""
    present = {name: value for name, value in winner.run.data.metrics.items() if name.startswith("test/")}
    if present:
        return present
    metrics = winner.evaluation.accuracies
    winner.client.log_batch(winner.run.info.run_id, metrics=_points(winner, metrics))
    return metrics


def _points(winner: Winner, metrics: dict[str, float], *, model_id: str | None = None) -> list[Metric]:
    """Points at the time of the last epoch, so that a repetition sends equal points."""
    from mlflow.entities import Metric

    epoch = winner.record.epochs[-1]
    return [
        Metric(name, value, epoch.timestamp_ms, epoch.epoch, model_id=model_id)
        for name, value in metrics.items()
    ]


def _logged_model(winner: Winner) -> LoggedModel:
    """The MLflow model of the trial's run."""
    run_id, experiment_id = winner.run.info.run_id, winner.run.info.experiment_id
    condition = f"source_run_id = '{run_id}' AND name = '{MODEL_NAME}'"
    found = winner.client.search_logged_models([experiment_id], condition)
    if found:
        return found[0]
    return winner.client.create_logged_model(
        experiment_id,
        name=MODEL_NAME,
        source_run_id=run_id,
        tags=winner.tags,
        params=winner.run.data.params,
        model_type="encoder",
    )


def _upload(winner: Winner, model: LoggedModel, metrics: dict[str, float]) -> None:
    """Export, verify, hash, upload, download and compare; only then is the model READY."""
    from mlflow.entities import LoggedModelStatus
    from mlflow.models import Model

    from selfcon.export import PixelEncoder, save_encoder
    from tune_jobs.registry.package import CARD, PRODUCT_FOLDER, verify_package, write_package

    dataset, probes = winner.dataset, winner.probes
    description = Model(
        artifact_path=model.artifact_location,
        run_id=winner.run.info.run_id,
        model_uuid=model.model_id,
        model_id=model.model_id,
    )
    encoder = PixelEncoder(winner.encoder.cpu(), mean=dataset.mean, std=dataset.std)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "model")
        write_package(folder, encoder, image_size=dataset.image_size, description=description)
        save_encoder(
            folder / PRODUCT_FOLDER,
            encoder=winner.encoder,
            config=winner.config,
            dataset=dataset,
            metrics=metrics,
            probes=probes,
        )
        (folder / CARD).write_text(winner.card(metrics), encoding="utf-8")
        verify_package(folder, encoder, image_size=dataset.image_size)
        _store(winner, model, folder)
    _link_to_run(winner, model, metrics)
    winner.client.finalize_logged_model(model.model_id, LoggedModelStatus.READY)


def _store(winner: Winner, model: LoggedModel, folder: Path) -> None:
    """Upload the package, download it, compare every byte, and record its SHA-256."""
    from mlflow.artifacts import download_artifacts

    from selfcon.export import DESCRIPTION
    from tune_jobs.registry.package import PRODUCT_FOLDER, digest_of_package, digests_of

    sent = digests_of(folder)
    with artifact_errors(), tempfile.TemporaryDirectory() as fetched:
        winner.client.log_model_artifacts(model.model_id, str(folder))
        download_artifacts(model.artifact_location, dst_path=fetched, tracking_uri=winner.client.tracking_uri)
        folders = [path.parent for path in Path(fetched).rglob("MLmodel")]
        found = digests_of(folders[0]) if folders else {}
    differing = sorted(sent.items() ^ found.items())
    if differing:
        raise SearchError(
            f"the stored encoder must equal the uploaded one, but {differing[0][0]} differs "
            f"(if this repeats, delete the logged model {model.model_id} in MLflow)"
        )
    tags = {PACKAGE_TAG: digest_of_package(folder), ENCODER_TAG: sent[f"{PRODUCT_FOLDER}/{DESCRIPTION}"]}
    winner.client.set_logged_model_tags(model.model_id, tags)


def _link_to_run(winner: Winner, model: LoggedModel, metrics: dict[str, float]) -> None:
    """Link the model to the run, and log the metrics for the model."""
    from mlflow.entities import LoggedModelOutput

    run_id = winner.run.info.run_id
    outputs = winner.run.outputs.model_outputs if winner.run.outputs else []
    if model.model_id not in [output.model_id for output in outputs]:
        output = LoggedModelOutput(model.model_id, step=winner.record.last_epoch)
        winner.client.log_outputs(run_id, models=[output])
    if not model.metrics:
        winner.client.log_batch(run_id, metrics=_points(winner, metrics, model_id=model.model_id))
