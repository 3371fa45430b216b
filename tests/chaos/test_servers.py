"""The main job on a cluster of several nodes, all its state on servers, its parts killed one after the other.

Two workers a trial, each on a node of its own; the study and MLflow's records in PostgreSQL, checkpoints and
artifacts in S3. A quarter of an hour on two CPUs.
"""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any

import pytest
import torch
from mlflow import MlflowClient
from pyarrow import fs

from tests.project import ROOT
from tune_jobs.cluster.token_auth import own_token
from tune_jobs.registry import load_encoder

from .cluster import LocalCluster
from .facts import records_of
from .invariants import INVARIANTS
from .mlflow_server import MLflowServer
from .processes import family
from .schedule import Victim, draw_schedule
from .search import SearchCommand
from .soak import disturb
from .surroundings import environment
from .training import MANIFEST, TrainingWatch

SEED = 5
NUM_TRIALS, FIRST_RUNG = 12, 4  # as search_spaces/exit_position.yaml has them
NUM_NODES = 3  # one may be away
VICTIMS = (Victim.WORKER, Victim.NODE, Victim.TRIAL, Victim.NODE_TOLD, Victim.HEAD, Victim.LAUNCHER)
KEYS = {"AWS_ACCESS_KEY_ID": "the-key", "AWS_SECRET_ACCESS_KEY": "the-secret-of-the-bucket"}


class Bucket:
    """A bucket of the S3 server, looked at from outside."""

    def __init__(self, endpoint: str, folder: str) -> None:
        self._root, self._query = f"bucket/{folder}", f"endpoint_override={endpoint}&scheme=http"
        self._fs = fs.S3FileSystem(
            access_key=KEYS["AWS_ACCESS_KEY_ID"], secret_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            endpoint_override=endpoint, scheme="http", region="us-east-1",
        )  # fmt: skip
        self.checkpoints = f"s3://{self._root}/checkpoints?{self._query}"
        self.artifacts = f"s3://{self._root}/artifacts"

    def files(self, folder: str) -> list[PurePath]:
        """Return the files below a folder."""
        selector = fs.FileSelector(f"{self._root}/{folder}", allow_not_found=True, recursive=True)
        return [PurePath(info.path) for info in self._fs.get_file_info(selector) if info.is_file]

    def manifests(self) -> list[PurePath]:
        """Return the manifests of all checkpoints."""
        return [path for path in self.files("checkpoints") if path.name == MANIFEST]


@contextmanager
def cluster_and_server(
    folder: Path, *, database: str, bucket: Bucket, endpoint: str
) -> Iterator[tuple[LocalCluster, MLflowServer]]:
    surroundings = environment() | KEYS
    of_server = surroundings | {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{endpoint}", "AWS_DEFAULT_REGION": "us-east-1"
    }  # fmt: skip
    server = MLflowServer(
        folder, of_server, database=database.replace("://", "+psycopg://"), artifacts=bucket.artifacts
    )
    # Not pytest's folder: the paths of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as of_ray:
        cluster = LocalCluster(Path(of_ray), surroundings, num_nodes=NUM_NODES)
        try:
            server.start()
            server.wait_until_ready()
            yield cluster, server
        finally:
            server.kill()
            cluster.stop()


@pytest.mark.soak
@pytest.mark.timeout(3000)
def test_the_main_job_on_servers_survives_the_loss_of_each_part(
    tmp_path: Path, postgresql_server: Any, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = Bucket(s3_endpoint, tmp_path.name)
    with (
        own_token(),
        cluster_and_server(
            tmp_path, database=postgresql_server.new_database(), bucket=bucket, endpoint=s3_endpoint
        ) as (cluster, server),
    ):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", server.uri)
        command = SearchCommand(
            folder=tmp_path,
            name="main",
            space=ROOT / "search_spaces/exit_position.yaml",
            overrides=("trial.num_workers=2",),
            tracking_uri=server.uri,
            address=cluster.address,
            study_storage=postgresql_server.new_database(),
            checkpoint_storage=bucket.checkpoints,
            variables=KEYS,
        )
        schedule = draw_schedule(
            SEED, num_kills=len(VICTIMS), num_epochs=NUM_TRIALS * (FIRST_RUNG + 1), victims=VICTIMS
        )
        soaked = disturb(
            command, num_trials=NUM_TRIALS, schedule=schedule, note=print,
            cluster=cluster, training=TrainingWatch(command.search_folder, manifests=bucket.manifests),
        )  # fmt: skip
        print(command.folder.joinpath("main.log").read_text())
        found = {name: check(soaked.facts) for name, check in INVARIANTS.items()}
        for name, finding in found.items():
            print(f"{name}: {finding.counted}")
        assert {name: finding.broken for name, finding in found.items()} == dict.fromkeys(INVARIANTS, ())
        assert sorted(soaked.story.kills) == sorted(VICTIMS)
        assert all(set(record.workers) == {2} for record in records_of(command))
        check_tracking(command, bucket)
        check_local_files(tmp_path, command)
        check_secrets([tmp_path, cluster.folder], [postgresql_server.password, KEYS["AWS_SECRET_ACCESS_KEY"]])


def check_tracking(command: SearchCommand, bucket: Bucket) -> None:
    """What MLflow has is whole: the winner's test figures, its encoder, and the files of both in S3."""
    client = MlflowClient(command.tracking_uri, command.tracking_uri)
    version = client.get_model_version_by_alias("selfcon-digits", "champion")
    run = client.get_run(version.run_id or "")
    assert run.data.metrics["test/top1"] > 0.9
    assert any(path.name == "MLmodel" for path in bucket.files("artifacts"))
    encoder = load_encoder("models:/selfcon-digits@champion")
    assert encoder(torch.zeros(5, 3, 16, 16)).shape == (5, encoder.feature_dim)


def check_local_files(folder: Path, command: SearchCommand) -> None:
    """Nothing under the launcher's folder is needed: neither checkpoints nor a study lie there."""
    names = {path.name for path in command.search_folder.iterdir()}
    assert names.isdisjoint({"trials", "study.db"})
    assert not (folder / "mlflow.db").exists()


def check_secrets(folders: Iterable[Path], secrets: Iterable[str]) -> None:
    """No secret stands in a file that was written, Ray's own included, nor in the arguments of a process."""
    for secret in secrets:
        for path in [path for folder in folders for path in folder.rglob("*") if path.is_file()]:
            assert secret.encode() not in path.read_bytes(), path
        assert not [process for process in family(1) if secret in process.title]
