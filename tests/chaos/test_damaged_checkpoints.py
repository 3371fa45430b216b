"""Checkpoints damaged between launches, and a worker that writes after the next attempt has started."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from selfcon.checkpoints.folder import newest_valid
from selfcon.checkpoints.state import CONTENT, MANIFEST, MODEL
from selfcon.config import TrainConfig
from tune_jobs.cluster.token_auth import own_token
from tune_jobs.study.records import State

from .cluster import LocalCluster
from .one_trial import NUM_EPOCHS, Launch, cluster, launched, record, statuses
from .processes import Process, is_alive
from .surroundings import environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(500)]

EXIT_TIMEOUT_S = 60.0
UNDISTURBED = """
import json, sys
from selfcon.config import TrainConfig
from selfcon.train import fit
history = []
fit(TrainConfig.model_validate_json(sys.stdin.read()), report=lambda result: history.append(result.metrics))
print(json.dumps(history))
"""


@pytest.fixture(scope="module")
def nodes() -> Iterator[LocalCluster]:
    with own_token(), cluster(environment(), num_nodes=2) as started:
        yield started


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


# Damage, and the file of the checkpoint that is damaged.
DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "truncated": (truncate, CONTENT[1]),
    "bit-flipped": (flip_a_bit, MODEL),
    "missing": (Path.unlink, CONTENT[2]),
    "without a manifest": (Path.unlink, MANIFEST),
}


def training_workers(nodes: LocalCluster) -> list[Process]:
    found = [process for members in nodes.node_processes() for process in members]
    return [process for process in found if process.title.startswith("ray::RayTrainWorker")]


def kill_launcher(launch: Launch, nodes: LocalCluster) -> None:
    """Kill the launcher, and wait until Ray has ended its workers."""
    launch.process.kill()
    launch.process.wait()
    deadline = time.monotonic() + EXIT_TIMEOUT_S
    while training_workers(nodes):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def check_result(folder: Path, *, attempts: int) -> None:
    """Check that the trial is complete and has the epochs and values of an undisturbed training."""
    trial = record(folder)
    assert (trial.state, trial.attempts) == (State.COMPLETE, attempts)
    assert [epoch.epoch for epoch in trial.epochs] == list(range(NUM_EPOCHS + 1))
    assert statuses(folder) == ["FINISHED"] * 2
    assert trial.config is not None
    config = TrainConfig.from_flat(trial.config).model_dump_json()
    done = subprocess.run(
        [sys.executable, "-c", UNDISTURBED], input=config, capture_output=True, text=True, check=True,
        env=environment(),
    )  # fmt: skip
    undisturbed = json.loads(done.stdout)
    for epoch, expected in zip(trial.epochs, undisturbed, strict=True):
        assert without_costs(epoch.metrics) == without_costs(expected)


def without_costs(metrics: dict[str, float]) -> dict[str, float]:
    return {name: value for name, value in metrics.items() if not name.startswith("cost/")}


def test_a_damaged_checkpoint_is_reported_and_the_previous_one_is_used(
    tmp_path: Path, nodes: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--address", nodes.address)
    checkpoints = tmp_path / "runs/lost/trials/0000/checkpoints"
    resumed = 0
    for damage, file in DAMAGES.values():
        with launched(tmp_path, environment(), *flags) as launch:
            launch.wait_for_epoch(resumed + 3)
            kill_launcher(launch, nodes)
        newest = newest_valid(checkpoints)
        assert newest is not None
        damage(newest / file)
        before = newest_valid(checkpoints)
        assert before is not None
        resumed = int(before.name.partition("-")[0])
        pattern = rf"checkpoint {newest.name} is damaged \(.*{file}.*\), resuming from {before.name}\n"
        with launched(tmp_path, environment(), *flags) as launch:
            launch.wait_for_epoch(resumed + 1)
            kill_launcher(launch, nodes)
        found = re.search(pattern, launch.text)
        assert found is not None, launch.text
        with capsys.disabled():
            print(f"\n{found[0]}", end="")
        resumed += 1
    with launched(tmp_path, environment(), *flags) as launch:
        assert launch.end() == 0, launch.text
    check_result(tmp_path, attempts=2 * len(DAMAGES) + 1)


def test_a_worker_that_outlives_its_launcher_does_no_harm(
    tmp_path: Path, nodes: LocalCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ("--address", nodes.address)
    with launched(tmp_path, environment(), *flags) as launch:
        launch.wait_for_epoch(3)
        (worker,) = training_workers(nodes)
        members = next(members for members in nodes.node_processes() if worker in members)
        (raylet,) = [process for process in members if "/raylet " in process.title]
        # The worker is paused, and so is its raylet, which would otherwise kill it.
        os.kill(raylet.pid, signal.SIGSTOP)
        os.kill(worker.pid, signal.SIGSTOP)
        launch.process.kill()
    with launched(tmp_path, environment(), *flags) as second:
        second.wait_for(lambda: "attempt 2" in second.text)
        second.wait_for_epoch(6)
        assert is_alive(worker)
        before = {(saved.attempt, saved.epoch) for saved in second.training.saved}
        os.kill(worker.pid, signal.SIGCONT)
        second.wait_for(lambda: saved_by_first_attempt(second) - before)
        with capsys.disabled():
            written, newest = max(saved_by_first_attempt(second) - before), max(before)
            print(f"\nattempt 1 wrote epoch {written[1]} when attempt 2 had finished epoch {newest[1]}")
        os.kill(raylet.pid, signal.SIGCONT)
        assert second.end() == 0, second.text
    check_result(tmp_path, attempts=2)


def saved_by_first_attempt(launch: Launch) -> set[tuple[int, int]]:
    """Return attempt and epoch of each checkpoint of the first attempt."""
    return {(saved.attempt, saved.epoch) for saved in launch.training.saved if saved.attempt == 1}
