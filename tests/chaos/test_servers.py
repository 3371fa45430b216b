"""The main job on several nodes with all state on servers, while its parts are killed one after the other.

Each trial has two workers on different nodes. The study and MLflow's records are in PostgreSQL, checkpoints
and artifacts in S3. Takes 15 minutes on two CPUs.
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
from .processes import process_tree
from .schedule import Victim, draw_schedule
from .search import SearchCommand
from .soak import disturb
from .surroundings import environment
from .training import MANIFEST, TrainingMonitor

SEED = 5
NUM_TRIALS, FIRST_RUNG = 12, 4  # as in search_spaces/exit_position.yaml
NUM_NODES = 3  # one may be down
VICTIMS = (Victim.WORKER, Victim.NODE, Victim.TRIAL, Victim.PREEMPTED_NODE, Victim.HEAD, Victim.LAUNCHER)
KEYS = {"AWS_ACCESS_KEY_ID": "the-key", "AWS_SECRET_ACCESS_KEY": "the-bucket-secret"}


class Bucket:
    """Bucket of the S3 server, accessed without the platform."""

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
    variables = environment() | KEYS
    server_variables = variables | {
        "MLFLOW_S3_ENDPOINT_URL": f"http://{endpoint}", "AWS_DEFAULT_REGION": "us-east-1"
    }  # fmt: skip
    server = MLflowServer(
        folder, server_variables, database=database.replace("://", "+psycopg://"), artifacts=bucket.artifacts
    )
    # In pytest's folder the paths of Ray's sockets would be too long.
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as ray_folder:
        cluster = LocalCluster(Path(ray_folder), variables, num_nodes=NUM_NODES)
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
        result = disturb(
            command, num_trials=NUM_TRIALS, schedule=schedule, note=print,
            cluster=cluster, training=TrainingMonitor(command.search_folder, manifests=bucket.manifests),
        )  # fmt: skip
        print(command.folder.joinpath("main.log").read_text())
        found = {name: check(result.facts) for name, check in INVARIANTS.items()}
        for name, finding in found.items():
            print(f"{name}: {finding.counted}")
        assert {name: finding.broken for name, finding in found.items()} == dict.fromkeys(INVARIANTS, ())
        assert sorted(result.history.kills) == sorted(VICTIMS)
        assert all(set(record.workers) == {2} for record in records_of(command))
        check_tracking(command, bucket)
        check_local_files(tmp_path, command)
        check_secrets([tmp_path, cluster.folder], [postgresql_server.password, KEYS["AWS_SECRET_ACCESS_KEY"]])


def check_tracking(command: SearchCommand, bucket: Bucket) -> None:
    """Check the test metrics and the encoder of the winner in MLflow, and their files in S3."""
    client = MlflowClient(command.tracking_uri, command.tracking_uri)
    version = client.get_model_version_by_alias("selfcon-digits", "champion")
    run = client.get_run(version.run_id or "")
    assert run.data.metrics["test/top1"] > 0.9
    assert any(path.name == "MLmodel" for path in bucket.files("artifacts"))
    encoder = load_encoder("models:/selfcon-digits@champion")
    assert encoder(torch.zeros(5, 3, 16, 16)).shape == (5, encoder.feature_dim)


def check_local_files(folder: Path, command: SearchCommand) -> None:
    """Check that the folder of the launcher contains neither checkpoints nor a study."""
    names = {path.name for path in command.search_folder.iterdir()}
    assert names.isdisjoint({"trials", "study.db"})
    assert not (folder / "mlflow.db").exists()


def check_secrets(folders: Iterable[Path], secrets: Iterable[str]) -> None:
    """Check that no secret is in a file, including Ray's, or in the arguments of a process."""
    for secret in secrets:
        for path in [path for folder in folders for path in folder.rglob("*") if path.is_file()]:
            assert secret.encode() not in path.read_bytes(), path
        assert not [process for process in process_tree(1) if secret in process.title]
