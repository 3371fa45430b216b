"""Register the encoder of the winner of a search as a model version.

The alias is set last, after the test metrics, the export, its verification, the upload and the version. If
the process is killed, the next call resumes at that step. Nothing is created twice.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from selfcon.config import TrainConfig
from tune_jobs.registry.champion import Alias, VersionScore, choose_alias
from tune_jobs.registry.model_card import intervals
from tune_jobs.registry.winner import (
    ENCODER_TAG,
    PACKAGE_TAG,
    TOP1,
    Winner,
    load_winner,
    metrics_on_test_set,
    stored_model,
)
from tune_jobs.study.records import TrialRecord
from tune_jobs.tracking.server import resolve_uri, tracking_errors

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mlflow import MlflowClient
    from mlflow.entities import LoggedModel
    from mlflow.entities.model_registry import ModelVersion

    from selfcon.checkpoints.state import TrainingState

DIGEST_TAG = "selfcon.data_digest"
NUM_IMAGES_TAG = "selfcon.validation_images"
MODEL_TAG = "selfcon.logged_model"
ALIAS_TAG = "selfcon.alias"
WHY_TAG = "selfcon.why"

ABOUT = """Encoders of {dataset}, each the winner of a search; every version has its card.

`champion` is the first version, until a later one is significantly better on the same data. `challenger` is
the newest version that is not. The tag `selfcon.why` has the reason."""

MAX_DESCRIPTION_LENGTH = 5000  # of a version, in MLflow's databases


@dataclass(frozen=True)
class Publication:
    """Registered version of a winner: its alias with the reason, and its test metrics."""

    version: int
    alias: Alias
    why: str
    metrics: dict[str, float]


def publish(
    *,
    uri: str | None,
    run_id: str,
    registered_model: str,
    search: str,
    record: TrialRecord,
    checkpoint: Path | TrainingState,
    config: TrainConfig,
) -> Publication:
    """Evaluate the winner of a search on the test set, once, and register its encoder.

    `run_id` is the trial's MLflow run, `checkpoint` its last checkpoint. A trial has one version; if it
    exists, it is returned. Raises `TrackingError` if MLflow fails, `CheckpointError` for an unusable
    checkpoint, `SearchError` if the trial has no val/top1 or the exported encoder differs from the trained.
    """
    from mlflow import MlflowClient

    uri = resolve_uri(uri)
    with tracking_errors(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        version = _existing_version(client, registered_model, run_id=run_id)
        if version is None:
            winner = load_winner(
                client,
                run_id=run_id,
                registered_model=registered_model,
                search=search,
                record=record,
                checkpoint=checkpoint,
                config=config,
            )
            version = _create_version(winner, registered_model)
        return _with_alias(client, version)


def _create_version(winner: Winner, name: str) -> ModelVersion:
    """Create the version without its alias."""
    client, metrics = winner.client, {TOP1: winner.top1, **metrics_on_test_set(winner)}
    model = stored_model(winner, metrics=metrics)
    score = VersionScore(
        top1=winner.top1, num_images=len(winner.dataset.validation), data_digest=winner.dataset.digest
    )
    if not client.search_registered_models(f"name = '{name}'"):
        client.create_registered_model(name, description=ABOUT.format(dataset=winner.dataset.name))
    verdict = choose_alias(score, _champion(client, name))
    return client.create_model_version(
        name,
        source=_source(client, model),
        run_id=winner.run.info.run_id,
        model_id=model.model_id,
        description=_shortened(winner.card(metrics)),
        tags={
            **winner.tags,
            **_score_tags(score),
            **{metric: repr(value) for metric, value in metrics.items()},
            **_interval_tags(metrics, winner.num_images),
            **{name: model.tags[name] for name in (PACKAGE_TAG, ENCODER_TAG)},
            MODEL_TAG: model.model_id,
            ALIAS_TAG: verdict.alias,
            WHY_TAG: verdict.why,
        },
    )


def _source(client: MlflowClient, model: LoggedModel) -> str:
    """URI of the model files. A server resolves `models:/<id>` itself; a database client uses the global
    store."""
    if client.tracking_uri.startswith("http"):
        return f"models:/{model.model_id}"
    return str(model.artifact_location)


def _score_tags(score: VersionScore) -> dict[str, str]:
    return {
        TOP1: repr(score.top1),
        NUM_IMAGES_TAG: str(score.num_images),
        DIGEST_TAG: score.data_digest,
    }


def _interval_tags(metrics: Mapping[str, float], num_images: Mapping[str, int]) -> dict[str, str]:
    """The 95 % interval of each accuracy: `interval/val/top1` is `0.8941 to 0.9577`."""
    found = intervals(metrics, num_images).items()
    return {f"interval/{name}": f"{low:.4f} to {high:.4f}" for name, (low, high) in found}


def _shortened(card: str) -> str:
    """The first paragraphs of a card that fit a description. The model's README.md has the complete card."""
    while len(card) > MAX_DESCRIPTION_LENGTH:
        card = card.rpartition("\n\n")[0]
    return card


def _champion(client: MlflowClient, name: str) -> VersionScore | None:
    """Score of the current champion. One registered by another program counts as evaluated on other data."""
    number = client.get_registered_model(name).aliases.get(Alias.CHAMPION)
    if number is None:
        return None
    tags = client.get_model_version(name, number).tags
    return VersionScore(
        top1=float(tags.get(TOP1, "nan")),
        num_images=int(tags.get(NUM_IMAGES_TAG, 0)),
        data_digest=tags.get(DIGEST_TAG, ""),
    )


def _existing_version(client: MlflowClient, name: str, *, run_id: str) -> ModelVersion | None:
    """The version of this run, if it exists; it is complete except for its alias."""
    found = client.search_model_versions(f"name = '{name}' and run_id = '{run_id}'")
    registered = [version for version in found if ALIAS_TAG in version.tags]
    return min(registered, key=lambda version: int(version.version), default=None)


def _with_alias(client: MlflowClient, version: ModelVersion) -> Publication:
    """Set the alias chosen when the version was created, unless a later version has it now."""
    # As mlflow.register_model does: the page of the model links to the version.
    link = json.dumps([{"name": version.name, "version": version.version}])
    client.set_logged_model_tags(version.tags[MODEL_TAG], {"mlflow.modelVersions": link})
    alias = Alias(version.tags[ALIAS_TAG])
    present = client.get_registered_model(version.name).aliases.get(alias)
    if present is None or int(present) < int(version.version):
        client.set_registered_model_alias(version.name, alias, version.version)
    metrics = {name: float(value) for name, value in version.tags.items() if name.startswith("test/")}
    return Publication(int(version.version), alias, version.tags[WHY_TAG], metrics)
