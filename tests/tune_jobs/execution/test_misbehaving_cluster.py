"""One trial on a real cluster with preemption, hangs and lost nodes: its losses stay the same."""

import os
import re
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from selfcon.checkpoints.folder import order_of_checkpoint
from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from selfcon.train import EpochReport, fit
from tests.tune_jobs import ray_nodes
from tune_jobs.space import load_space
from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.search_study import SearchStudy

pytestmark = [pytest.mark.soak, pytest.mark.timeout(600)]

HANG_TIMEOUT_S = 15
NUM_EPOCHS = 12
SPACE = f"""
name: disturbed
train:
  data: {{dataset: digits, image_size: 16, augmentation: none}}
  model: {{width: 8, normalization: group}}
  loss: {{use_labels: false}}
  optim: {{epochs: {NUM_EPOCHS}, global_batch_size: 64, learning_rate: 0.05, precision: fp64}}
  evaluate: {{every_epochs: {NUM_EPOCHS}}}
space: {{loss.temperature: {{choices: [0.1]}}}}
search: {{num_trials: 1, sampler: random}}
trial: {{num_workers: [1, 2], hang_timeout: {HANG_TIMEOUT_S}s}}
"""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    with ray_nodes.started_cluster(SPACE) as started:
        yield started


@contextmanager
def stopped(pid: int) -> Iterator[None]:
    """Stop a process with SIGSTOP; at the end of the block, wait until Ray has killed it."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
        deadline = time.monotonic() + 20
        while is_alive(pid):
            assert time.monotonic() < deadline
            time.sleep(0.1)
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)


def is_alive(pid: int) -> bool:
    """Return whether a process is alive; a zombie is not."""
    status = Path(f"/proc/{pid}/stat")
    return status.exists() and status.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_a_preempted_stopped_and_waiting_trial_resumes_to_the_same_losses(
    cluster: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cluster.add()
    cluster.add()
    with cluster.launched(tmp_path) as launch:
        outputs = [
            launch.read_until(r"^disturbed: 1 trials, 1 at once \(2 CPUs / \(1 to 2 workers x 1 CPU\) = 1")
        ]
        outputs.append(launch.read_until("trial 0 +on 2 workers: "))
        outputs.append(launch.read_until("trial 0 +epoch 2/"))
        cluster.drain()
        outputs.append(launch.read_until(r"trial 0 +preempted in epoch \d+, will be rescheduled$"))
        preempted = [path.name for path in (tmp_path / "runs/disturbed/trials/0000/checkpoints").iterdir()]
        outputs.append(launch.read_until(r"trial 0 +resumes after epoch \d+, attempt 2, on 1 worker: "))
        outputs.append(launch.read_until("trial 0 +epoch 5/"))
        cluster.remove()
        cluster.add()
        (worker,) = cluster.training_workers()
        with stopped(worker):  # only Ray Train can detect that
            outputs.append(launch.read_until(r"trial 0 +hung in epoch \d+, will be rescheduled: A worker"))
        outputs.append(launch.read_until(r"trial 0 +resumes after epoch \d+, attempt 3, on 2 workers: "))
        outputs.append(launch.read_until("trial 0 +epoch 8/"))
        with stopped(cluster.training_workers()[0]):  # the other one waits for it in a collective
            hung = (
                rf"trial 0 +hung in epoch \d+, .*: no progress for {HANG_TIMEOUT_S} s, last in .*, rank \d$"
            )
            outputs.append(launch.read_until(hung))
        outputs.append(launch.read_until(r"trial 0 +resumes after epoch \d+, attempt 4, on 2 workers: "))
        code, text = launch.end()
    text = "".join(outputs) + text
    assert code == 0, text
    difference = check_trial(trial_of(tmp_path), undisturbed(tmp_path), text)
    (position,) = [order for order in map(order_of_checkpoint, preempted) if order and order[1]]
    with capsys.disabled():
        print(
            f"\npreempted after step {position[1]} of epoch {position[0] + 1}; "
            f"largest difference of losses: {difference:.1e}"
        )


def check_trial(trial: TrialRecord, losses: list[float], text: str) -> float:
    """Return the largest difference between a loss and that of the undisturbed run."""
    assert trial.state == State.COMPLETE, text
    assert [end.reason for end in trial.attempt_ends] == [Reason.PREEMPTED, Reason.HUNG, Reason.HUNG]
    assert trial.workers == (2, 1, 2, 2)
    assert [epoch.epoch for epoch in trial.epochs] == list(range(NUM_EPOCHS + 1))
    found = [epoch.metrics["train/loss"] for epoch in trial.epochs[1:]]
    difference = max(abs(a - b) for a, b in zip(found, losses, strict=True))
    assert difference < 1e-9
    assert losses[-1] < 0.97 * losses[0]
    (stop,) = re.findall(r"after step (\d+) of epoch (\d+)", trial.attempt_ends[0].message)
    assert int(stop[1]) == next(e.epoch for e in trial.epochs if e.attempt == 2)
    return difference


def trial_of(folder: Path) -> TrialRecord:
    space = load_space(folder / "space.yaml")
    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    study = SearchStudy(f"sqlite:///{folder}/runs/disturbed/study.db", space, data_digest=digest)
    return study.record(0)


def undisturbed(folder: Path) -> list[float]:
    """The losses of the same configuration in one process."""
    config = trial_of(folder).config
    assert config is not None
    losses: list[float] = []

    def report(epoch: EpochReport) -> None:
        if epoch.epoch:
            losses.append(epoch.metrics["train/loss"])

    fit(TrainConfig.from_flat(config), report=report)
    return losses
