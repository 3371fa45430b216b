"""Searches that lose their storage to real failures, and resume after it is repaired."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import pytest

from selfcon.config import TrainConfig
from selfcon.data.dataset import load_dataset
from tests.launches import launched
from tune_jobs.space import load_space
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.study.search_study import SearchStudy
from tune_jobs.study.store import open_database

SPACE = """
name: faults
train:
  data: {dataset: digits, image_size: 16, validation_fraction: 0.2, augmentation: none}
  model: {width: 8, exit_depth: fc}
  optim: {epochs: 8, global_batch_size: 64, learning_rate: 0.05}
space: {loss.temperature: {low: 0.05, high: 0.5}}
search: {num_trials: 1}
"""
EXIT_AFTER_S = 60.0  # a failure is detected within a second or an epoch; the rest allows for a busy machine
DISK_BYTES = 48_000_000

HOLD = """
import pathlib, sys
from tune_jobs.study.database.database import held
from tune_jobs.study.store import open_database
folder = pathlib.Path("runs/faults").resolve()
with held(open_database(f"sqlite:///{folder}/study.db"), study="faults/faults", folder=folder):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system in memory that can be filled and made read-only."""
    path = tmp_path / "disk"
    path.mkdir()
    if os.getuid() != 0 or not _mount("-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(path)):
        pytest.skip("a file system can be mounted by root only")
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def _mount(*words: str) -> bool:
    return subprocess.run(["mount", *words], capture_output=True, check=False).returncode == 0


def fill(disk: Path) -> Path:
    """Fill the free space of a disk with one file."""
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file:
        for size in (1_000_000, 1):
            with pytest.raises(OSError, match="No space left on device"):
                _write_forever(file, size)
    return filler


def _write_forever(file: IO[bytes], size: int) -> None:
    while True:
        file.write(b"\0" * size)


def records(folder: Path, storage: str) -> list[TrialRecord]:
    space = load_space(folder / "space.yaml")
    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    database = open_database(storage)
    try:
        return SearchStudy(database, space, data_digest=digest).records()
    finally:
        database.close()  # an open file prevents a remount of its disk


def check_stopped(search: Any, break_storage: Callable[[], object], *, message: str) -> None:
    """Break the storage: the search exits soon, with one line that gives the cause and how to resume."""
    break_storage()
    started_s = time.monotonic()
    code, text = search.end()
    assert code == 6, text
    assert time.monotonic() - started_s < EXIT_AFTER_S
    # Lines about trials begin with a time.
    errors = [line for line in text.splitlines() if not line.lstrip()[:1].isdigit()]
    assert len(errors) == 1, text
    assert errors[0].startswith("error: ")
    assert message in errors[0]
    assert "; resume with: python launch.py --space space.yaml" in errors[0]


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_search_resumes_after_a_lost_study_a_full_disk_and_a_read_only_disk(
    folder: Path, small_disk: Path
) -> None:
    flags = ("--space", "space.yaml", "--output", "disk/runs")
    study = small_disk / "runs/faults/study.db"
    with launched(folder, *flags) as search:
        search.read_until("trial 0 +epoch 1/8")
        away = study.with_name("away.db")
        check_stopped(search, lambda: study.rename(away), message="removed or replaced while in use")
    away.rename(study)
    with launched(folder, *flags) as search:
        search.read_until("trial 0 +resumes after epoch")
        search.read_until("trial 0 +epoch ")
        check_stopped(search, lambda: fill(small_disk), message="No space left on device")
    (small_disk / "filler").unlink()
    before = records(folder, f"sqlite:///{study}")[0].epochs
    assert _mount("-o", "remount,ro", str(small_disk))
    with launched(folder, *flags) as search:
        check_stopped(search, lambda: None, message="ead-only")
    assert _mount("-o", f"remount,rw,size={DISK_BYTES}", str(small_disk))
    with launched(folder, *flags) as search:
        code, text = search.end()
        assert code == 0, text
    (trial,) = records(folder, f"sqlite:///{study}")
    assert trial.state == State.COMPLETE
    assert trial.epochs[: len(before)] == before
    assert [epoch.epoch for epoch in trial.epochs] == list(range(9))


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_search_resumes_after_its_study_server_stopped(folder: Path, postgresql_server: Any) -> None:
    url = postgresql_server.new_database()
    environment = {"SELFCON_STUDY_STORAGE": url}
    with launched(folder, "--space", "space.yaml", environment=environment) as search:
        search.read_until("trial 0 +epoch 2/8")
        check_stopped(search, postgresql_server.stop, message="cannot be used")
    postgresql_server.start()
    with launched(folder, "--space", "space.yaml", environment=environment) as search:
        code, text = search.end()
        assert code == 0, text
    assert postgresql_server.password not in text
    (trial,) = records(folder, url)
    assert (trial.state, trial.attempts) == (State.COMPLETE, 2)
    assert [epoch.epoch for epoch in trial.epochs] == list(range(9))


def test_a_second_launcher_is_refused_also_while_the_first_is_paused(folder: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLD], cwd=folder, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "held\n"
        subprocess.run(["kill", "-STOP", str(first.pid)], check=True)
        with launched(folder, "--space", "space.yaml") as second:
            code, text = second.end()
        first.kill()
    assert code == 7
    assert text.count("\n") == 1
    assert text.startswith(
        "error: another launcher runs this search: "
        f"process {first.pid} on {os.uname().nodename}, started {time.strftime('%Y')}"
    )


def test_a_damaged_study_stops_a_launch_and_is_not_changed(folder: Path) -> None:
    study = folder / "runs/faults/study.db"
    study.parent.mkdir(parents=True)
    study.write_text("text " * 1000)
    with launched(folder, "--space", "space.yaml") as search:
        check_stopped(search, lambda: None, message="file is not a database")
    assert study.read_text() == "text " * 1000
