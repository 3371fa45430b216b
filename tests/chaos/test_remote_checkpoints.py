"""A search with checkpoints in S3, on nodes without access to the folder of the launcher."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.launches import launched
from tune_jobs.cluster.token_auth import own_token

from .cluster import LocalCluster
from .processes import Process
from .surroundings import environment

SPACE = """
name: remote
train:
  data: {dataset: digits, image_size: 16, augmentation: none}
  model: {width: 8, exit_depth: fc}
  optim: {epochs: 8, global_batch_size: 64, learning_rate: 0.05}
space: {loss.temperature: {low: 0.05, high: 0.5}}
search: {num_trials: 1, sampler: random}
"""
KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
# Processes on the node see an empty read-only folder instead of the launcher's.
HIDE = 'mount -t tmpfs -o ro tmpfs "$0" && exec "$@"'


@contextmanager
def cluster_without(folder: Path) -> Iterator[LocalCluster]:
    """Start a head without CPUs, and a node of one CPU on which the folder is empty."""
    ray_folder = tempfile.mkdtemp(
        prefix="ray-"
    )  # in pytest's folder the paths of Ray's sockets would be too long
    hidden = ("unshare", "--mount", "sh", "-c", HIDE, str(folder))
    cluster = LocalCluster(Path(ray_folder), environment() | KEYS, num_nodes=1, before_nodes=hidden)
    try:
        yield cluster
    finally:
        cluster.stop()
        shutil.rmtree(ray_folder, ignore_errors=True)


def training_worker(cluster: LocalCluster) -> Process:
    (processes,) = cluster.node_processes()
    return next(process for process in processes if "RayTrainWorker" in process.title)


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_trial_resumes_from_s3_on_nodes_without_the_launchers_folder(
    tmp_path: Path, s3_endpoint: str
) -> None:
    if os.getuid() != 0 or subprocess.run(["unshare", "--mount", "true"], check=False).returncode:
        pytest.skip("only root can create a mount namespace")
    (tmp_path / "space.yaml").write_text(SPACE)
    storage = f"s3://bucket/{tmp_path.name}?endpoint_override={s3_endpoint}&scheme=http"
    with own_token(), cluster_without(tmp_path) as cluster:  # this process queries the cluster
        flags = ("--space", "space.yaml", "--address", cluster.address, "--checkpoint-storage", storage)
        with launched(tmp_path, *flags, environment=environment() | KEYS) as search:
            search.read_until("trial 0 +epoch 2/8")
            os.kill(training_worker(cluster).pid, signal.SIGKILL)
            search.read_until("resumes after epoch [2-4], attempt 2")
            started_s = time.monotonic()
            code, text = search.end()
    assert code == 0, text
    assert "winner: trial 0" in text
    assert "test/top1" in text
    assert re.findall(r"epoch (\d)/8", text)[-1] == "8"
    assert "epoch 0/8" not in text  # it did not start over
    assert not (tmp_path / "runs/remote/trials").exists()
    assert time.monotonic() - started_s < 120
