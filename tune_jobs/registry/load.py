"""Download, verify and load a registered encoder."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from tune_jobs.errors import BadInputError
from tune_jobs.registry.winner import ENCODER_TAG
from tune_jobs.tracking.server import resolve_uri, tracking_errors

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

    from selfcon.export import PixelEncoder

_VERSION_URI = re.compile(r"models:/(?P<name>[^/@]+)(?:/(?P<number>\d+)|@(?P<alias>[^/@]+))")


def load_encoder(uri: str, *, exit_stage: int | None = None) -> PixelEncoder:
    """Download, verify and load a registered encoder.

    The MLflow store is that of MLFLOW_TRACKING_URI, else `mlflow.db` in the current folder.

    Args:
        uri: `models:/NAME/NUMBER` or `models:/NAME@ALIAS`, for example `models:/selfcon-digits@champion`.
        exit_stage: The exit whose features are returned; None for the backbone.

    Returns:
        A module that maps float32 images in [0, 1] or uint8 images, (N, 3, H, W), to features (N, D).

    Raises:
        TrackingError: MLflow does not answer, or has no such version.
        CheckpointError: The SHA-256 of the files differs from the tags of the version.
        BadInputError: `uri` has another form.
        ConfigError: The encoder has no such exit.

    Example:
        encoder = load_encoder("models:/selfcon-digits@champion")
        features = encoder(images)
    """
    from mlflow.artifacts import download_artifacts

    from selfcon.errors import CheckpointError
    from selfcon.export import DESCRIPTION
    from selfcon.export import load_encoder as load
    from tune_jobs.registry.package import PRODUCT_FOLDER, digests_of

    store = resolve_uri(None)
    with tempfile.TemporaryDirectory() as folder:
        with tracking_errors(store):
            version = _version_at(uri, store)
            # By number, because an alias may move between two requests.
            path = download_artifacts(
                f"models:/{version.name}/{version.version}/{PRODUCT_FOLDER}",
                dst_path=folder, tracking_uri=store, registry_uri=store,
            )  # fmt: skip
        wanted = version.tags.get(ENCODER_TAG)
        if wanted is not None and digests_of(Path(path)).get(DESCRIPTION) != wanted:
            raise CheckpointError(
                f"{uri}: damaged, the SHA-256 of {DESCRIPTION} differs from the tag of the version"
            )
        return load(path, exit_stage=exit_stage)


def _version_at(uri: str, store: str) -> ModelVersion:
    """The version of `models:/NAME/NUMBER` or `models:/NAME@ALIAS`."""
    from mlflow import MlflowClient

    client = MlflowClient(tracking_uri=store, registry_uri=store)
    found = _VERSION_URI.fullmatch(uri)
    if found is None:
        raise BadInputError(f"expected models:/NAME/NUMBER or models:/NAME@ALIAS, got {uri}")
    if found["alias"]:
        return client.get_model_version_by_alias(found["name"], found["alias"])
    return client.get_model_version(found["name"], found["number"])
