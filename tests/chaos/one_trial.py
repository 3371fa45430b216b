"""A search of one trial on a local cluster, for tests that interrupt it at chosen points."""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from mlflow import MlflowClient

from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from tests.project import ROOT
from tune_jobs.space import load_space
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.search_study import SearchStudy

from .cluster import LocalCluster
from .training import TrainingMonitor

WAIT_S = 150.0
NUM_EPOCHS = 30
SPACE = f"""
name: lost
train:
  data: {{dataset: digits, image_size: 16, augmentation: none}}
  model: {{width: 8, exit_depth: fc}}
  optim: {{epochs: {NUM_EPOCHS}, global_batch_size: 64, learning_rate: 0.05}}
space: {{loss.temperature: {{low: 0.05, high: 0.5}}}}
search: {{num_trials: 1, sampler: random}}
"""


class Launch:
    """One launch of the search in a folder, with its output in a file."""

    def __init__(self, folder: Path, variables: Mapping[str, str], *flags: str) -> None:
        (folder / "space.yaml").write_text(SPACE)
        self._log = folder / f"launch-{time.monotonic_ns()}.log"
        self.training = TrainingMonitor(folder / "runs" / "lost")
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, str(ROOT / "launch.py"), "--space", "space.yaml", *flags],
                cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def text(self) -> str:
        """Output so far."""
        return self._log.read_text()

    def wait_for(self, condition: Callable[[], object]) -> None:
        """Poll the checkpoints until a condition holds."""
        deadline = time.monotonic() + WAIT_S
        while not condition():
            assert time.monotonic() < deadline, self.text
            time.sleep(0.05)
            self.training.poll()

    def wait_for_epoch(self, epoch: int) -> None:
        """Wait until an epoch is reported."""
        self.wait_for(lambda: self.process.poll() is not None or f"epoch {epoch}/" in self.text)
        assert self.process.poll() is None, self.text

    def newest_epoch(self) -> int:
        """Return the last reported epoch."""
        return int(re.findall(r"epoch (\d+)/", self.text)[-1])

    def end(self) -> int:
        """Wait for the end of the launch and return its exit code."""
        self.wait_for(lambda: self.process.poll() is not None)
        return self.process.wait()


@contextmanager
def launched(folder: Path, variables: Mapping[str, str], *flags: str) -> Iterator[Launch]:
    """Start a launch, and kill it at the end of the block if it still runs."""
    launch = Launch(folder, variables, *flags)
    try:
        yield launch
    finally:
        launch.process.kill()
        launch.process.wait()


@contextmanager
def cluster(variables: Mapping[str, str], *market_types: str, num_nodes: int) -> Iterator[LocalCluster]:
    """Start a head and nodes of one CPU, and stop them at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as folder:
        started = LocalCluster(Path(folder), variables, num_nodes=num_nodes, market_types=market_types)
        try:
            yield started
        finally:
            started.stop()


def record(folder: Path) -> TrialRecord:
    """Return the record of the only trial."""
    space = load_space(folder / "space.yaml")
    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    study = SearchStudy(f"sqlite:///{folder}/runs/lost/study.db", space, data_digest=digest)
    (found,) = study.records()
    return found


def statuses(folder: Path) -> list[str]:
    """Return the status of all MLflow runs: one of the search, one of the trial."""
    client = MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("lost")
    assert experiment is not None
    return [run.info.status for run in client.search_runs([experiment.experiment_id])]
