"""A single worker in this process, with a stand-in for Ray: preempted within an epoch, then resumed."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import ray
import ray.train

import selfcon.train
from selfcon.config import TrainConfig
from selfcon.train import train_step
from tune_jobs.cluster import draining
from tune_jobs.execution.worker import train_worker
from tune_jobs.study.records import Reason

STEPS_PER_EPOCH = 17  # 1,150 training images
CONFIG = TrainConfig.from_flat(
    {
        "data.image_size": 8,
        "data.validation_fraction": 0.2,
        "model.width": 4,
        "optim.epochs": 3,
        "optim.global_batch_size": 64,
        "evaluate.probe_epochs": 2,
    }
)


class Worker:
    """Runs attempts of one trial; `drained_node` starts draining after `drained_after` steps."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.losses: list[float] = []  # of the steps of all attempts
        self.reports: list[dict[str, Any]] = []
        self.drained_after, self.drained_node = 10**9, "its own"
        context = SimpleNamespace(
            get_world_rank=lambda: 0, get_local_rank=lambda: 0, get_world_size=lambda: 1
        )
        monkeypatch.setattr(ray.train, "get_context", lambda: context)
        monkeypatch.setattr(ray.train, "report", self.reports.append)
        monkeypatch.setattr(
            ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "its own")
        )
        monkeypatch.setattr(selfcon.train, "train_step", self.take_step)
        monkeypatch.setattr(draining, "POLL_S", 0.001)
        monkeypatch.setattr(draining, "draining_nodes", self.draining_nodes)

    def take_step(self, *arguments: Any, **named: Any) -> float:
        self.losses.append(train_step(*arguments, **named))
        return self.losses[-1]

    def draining_nodes(self) -> frozenset[str]:
        over = len(self.losses) >= self.drained_after
        return frozenset({self.drained_node, "another"} if over else {"another"})

    def train(self, *, attempt: int, last_epoch: int) -> list[dict[str, Any]]:
        """Train an attempt and return what it reported."""
        self.reports.clear()
        train_worker(
            {
                "train": CONFIG.model_dump(mode="json"),
                "checkpoints": str(self.folder),
                "name": "0000",
                "attempt": attempt,
                "last_epoch": last_epoch,
                "hang_timeout_s": 60.0,
                "node": "its trial's",
            }
        )
        return list(self.reports)

    def checkpoints(self) -> list[str]:
        return sorted(path.name for path in (self.folder / "trials/0000/checkpoints").iterdir())


@pytest.fixture
def worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> list[float]:
    with pytest.MonkeyPatch.context() as monkeypatch:
        worker = Worker(tmp_path_factory.mktemp("undisturbed"), monkeypatch)
        reports = worker.train(attempt=1, last_epoch=-1)
        assert [report["epoch"] for report in reports] == [0, 1, 2, 3]
        return worker.losses


@pytest.mark.parametrize("node", ["its own", "its trial's"])
def test_a_preempted_attempt_stops_within_the_epoch_and_the_next_one_resumes(
    worker: Worker, undisturbed: list[float], node: str
) -> None:
    worker.drained_after, worker.drained_node = STEPS_PER_EPOCH + 3, node
    reports = worker.train(attempt=1, last_epoch=-1)
    step = len(worker.losses) - STEPS_PER_EPOCH
    assert 3 <= step <= STEPS_PER_EPOCH
    assert [report.get("epoch") for report in reports] == [0, 1, None]
    message = f"stopped on request after step {step} of epoch 2"
    assert reports[-1] == {"failure": Reason.PREEMPTED, "message": message}
    assert worker.checkpoints()[-1] == f"0001-s{step:06d}-a1"

    worker.drained_after = 10**9
    reports = worker.train(attempt=2, last_epoch=1)
    assert [report["epoch"] for report in reports] == [1, 2, 3]
    assert worker.losses == undisturbed
    assert worker.checkpoints() == ["0002-a2", "0003-a2"]


def test_a_trial_preempted_many_times_takes_every_step_once(worker: Worker, undisturbed: list[float]) -> None:
    last_epoch = -1
    for attempt in range(1, 100):
        worker.drained_after = len(worker.losses) + 5
        reports = worker.train(attempt=attempt, last_epoch=last_epoch)
        last_epoch = max([last_epoch, *(report["epoch"] for report in reports if "epoch" in report)])
        if "failure" not in reports[-1]:
            break
    assert last_epoch == 3
    assert attempt > 3
    assert worker.losses == undisturbed
