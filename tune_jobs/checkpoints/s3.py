"""Checkpoints in an object store through pyarrow: `s3://bucket/path?endpoint_override=HOST:PORT&scheme=http`.

Writes of objects are atomic. Credentials come from the environment of each process, never from the URI.
"""

import os
from collections.abc import Mapping
from contextlib import suppress
from urllib.parse import parse_qsl, urlsplit

from pyarrow import fs

from tune_jobs.checkpoints.store import PROBE, CheckpointStore, storage_errors
from tune_jobs.urls import masked_uri

# A dead endpoint is an error within seconds; a busy one is retried with exponential backoff.
CONNECT_TIMEOUT_S = 3.0
MAX_ATTEMPTS = 4


class ObjectStore(CheckpointStore):
    """Checkpoints below an S3 URI."""

    def __init__(self, uri: str) -> None:
        self.where = masked_uri(uri)
        parts = urlsplit(uri)
        self._root = f"{parts.netloc}{parts.path}".rstrip("/")
        with storage_errors(self.where):
            self._fs = _file_system(parts.netloc, dict(parse_qsl(parts.query)))

    def check(self) -> None:
        """As `CheckpointStore.check`."""
        path = f"{self._root}/{PROBE}"
        with storage_errors(self.where):
            self._write(path, PROBE.encode())
            with self._fs.open_input_stream(path) as file:
                file.read()
            self._fs.delete_file(path)

    def trials(self) -> dict[str, int]:
        """As `CheckpointStore.trials`, from one listing."""
        root = f"{self._root}/trials"
        sizes: dict[str, int] = {}
        for info in self._found(root, recursive=True):
            trial = info.path.removeprefix(f"{root}/").split("/")[0]
            sizes[trial] = sizes.get(trial, 0) + (info.size or 0)
        return sizes

    def names(self, trial: str) -> list[str]:
        """As `CheckpointStore.names`."""
        return [info.base_name for info in self._found(f"{self._root}/trials/{trial}/checkpoints")]

    def save(self, trial: str, name: str, payloads: Mapping[str, bytes]) -> None:
        """As `CheckpointStore.save`."""
        with storage_errors(self.where):
            for file, payload in payloads.items():
                self._write(f"{self._path(trial, name)}/{file}", payload)

    def load(self, trial: str, name: str) -> dict[str, bytes]:
        """As `CheckpointStore.load`."""
        payloads = {}
        for info in self._found(self._path(trial, name)):
            # An object that was removed in between counts as missing, as in a folder.
            with (
                storage_errors(self.where),
                suppress(FileNotFoundError),
                self._fs.open_input_file(info.path) as file,
            ):
                payloads[info.base_name] = file.read()
        return payloads

    def remove(self, trial: str, name: str) -> None:
        """As `CheckpointStore.remove`."""
        with storage_errors(self.where), suppress(FileNotFoundError):
            self._fs.delete_dir(self._path(trial, name))

    def _path(self, trial: str, name: str) -> str:
        return f"{self._root}/trials/{trial}/checkpoints/{name}"

    def _found(self, folder: str, *, recursive: bool = False) -> list[fs.FileInfo]:
        with storage_errors(self.where):
            selector = fs.FileSelector(folder, allow_not_found=True, recursive=recursive)
            return list(self._fs.get_file_info(selector))

    def _write(self, path: str, payload: bytes) -> None:
        # Not a context manager: exiting one after an error would complete the object.
        file = self._fs.open_output_stream(path)
        file.write(payload)
        file.close()


def _file_system(bucket: str, query: Mapping[str, str]) -> fs.S3FileSystem:
    """The file system of pyarrow for the URI, with the timeouts of this module."""
    endpoint = query.get("endpoint_override")
    if endpoint or os.environ.get("AWS_ACCESS_KEY_ID"):
        # Keys are given, or this is not an AWS machine: skip the slow query of the metadata service.
        os.environ.setdefault("AWS_EC2_METADATA_DISABLED", "true")
    region = query.get("region") or os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if region is None and not endpoint:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region or "us-east-1",
        scheme=query.get("scheme", "https"),
        endpoint_override=endpoint,
        connect_timeout=CONNECT_TIMEOUT_S,
        retry_strategy=fs.AwsStandardS3RetryStrategy(max_attempts=MAX_ATTEMPTS),
    )
