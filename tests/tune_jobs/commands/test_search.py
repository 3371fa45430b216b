"""The whole platform on real parts: a local Ray cluster, SQLite, MLflow, training on the digits."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import mlflow
import numpy as np
import pytest

from tests.project import ROOT
from tests.tune_jobs.ray_nodes import read_until, rest_of
from tune_jobs.space import load_space
from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.search_study import SearchStudy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SPACE = """
name: end-to-end
description: Three trials, one at a time. One learns, one has next to no learning rate, one collapses.
train:
  data: {dataset: digits, image_size: 16, validation_fraction: 0.2, augmentation: none}
  model: {width: 8, exit_depth: fc}
  optim: {epochs: 6, global_batch_size: 64}
space:
  model.projection_normalization: {choices: [batch, none]}
  optim.learning_rate: {low: 1e-6, high: 0.5, log: true}
start:
  - {model.projection_normalization: batch, optim.learning_rate: 0.05}
  - {model.projection_normalization: batch, optim.learning_rate: 1e-6}
  - {model.projection_normalization: none, optim.learning_rate: 0.1}
search: {num_trials: 3, seed: 0, max_concurrent: 1}
pruner: {kind: successive_halving, min_epochs: 4, reduction_factor: 2}
tracking: {registered_model: selfcon-digits}
"""

CONFIRM = "confirm: {top_k: 1, seeds: 2}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "space.yaml").write_text(SPACE)
    return tmp_path


def command(*more: str) -> list[str]:
    return [sys.executable, str(ROOT / "launch.py"), "--space", "space.yaml", *more]


@contextmanager
def launched(folder: Path, *more: str) -> Iterator[subprocess.Popen[str]]:
    """A launcher in the folder, killed at the end of the block if it still runs."""
    process = subprocess.Popen(
        command(*more), cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    with process:
        try:
            yield process
        finally:
            process.kill()


def study(folder: Path) -> SearchStudy:
    space = load_space(folder / "space.yaml")
    from selfcon.config import TrainConfig
    from selfcon.data.dataset import load_dataset

    digest = load_dataset(TrainConfig.from_flat(space.train).data).digest
    return SearchStudy(f"sqlite:///{folder}/runs/end-to-end/study.db", space, data_digest=digest)


def records(folder: Path) -> list[TrialRecord]:
    return study(folder).records()


def runs(folder: Path) -> list[mlflow.entities.Run]:
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    experiment = client.get_experiment_by_name("end-to-end")
    assert experiment is not None
    return list(client.search_runs([experiment.experiment_id]))


PREDICT = """
import sys, numpy, mlflow
mlflow.set_tracking_uri(sys.argv[1])
model = mlflow.pyfunc.load_model("models:/selfcon-digits@champion")
images = numpy.load("images.npy")
numpy.savez("features.npz", *[model.predict(images[:count]) for count in (1, 3, 17)])
assert "ray" not in sys.modules and "optuna" not in sys.modules
"""


def test_a_search_that_is_killed_and_stopped_goes_on_to_the_end(folder: Path) -> None:
    (folder / "space.yaml").write_text(SPACE + CONFIRM)
    with launched(folder) as first:
        read_until(first, "trial 0 +epoch 3/6")
        first.send_signal(signal.SIGKILL)
        first.wait()
    with launched(folder) as second:
        seen = read_until(second, "trial 1 +epoch 1/6")
        assert "goes on after epoch" in seen
        second.send_signal(signal.SIGTERM)
        text = rest_of(second)
        assert second.returncode == 143, text
        assert "resume with: python launch.py --space space.yaml" in text
    with launched(folder) as third:
        read_until(third, "trial 0-seed-1 epoch 3/6")
        check_leaves_at_the_second_interrupt(third)
    with launched(folder) as fourth:
        text = rest_of(fourth)
        assert fourth.returncode == 0, text

    trials = records(folder)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.attempts for trial in trials] == [2, 2, 1]
    assert [trial.state for trial in trials] == [State.COMPLETE, State.PRUNED, State.PRUNED]
    assert [trial.reason for trial in trials] == [None, Reason.RUNG, Reason.COLLAPSED]
    assert [epoch.epoch for epoch in trials[0].epochs] == [0, 1, 2, 3, 4, 5, 6]
    assert "pruned: 2 (1 rung, 1 collapsed)" in text
    check_confirmation(folder, trials[0], text)
    check_tracking(folder, trials)
    check_registered_encoder(folder)
    check_finished_search_shows_its_result(folder)
    check_files(folder)
    check_reproduction(folder)


def check_leaves_at_the_second_interrupt(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGINT)
    read_until(process, "^stopping: ")
    process.send_signal(signal.SIGINT)
    asked_s = time.monotonic()
    text = rest_of(process)
    assert time.monotonic() - asked_s < 20  # Ray's processes are ended, no epoch is waited for
    assert process.returncode == 130, text
    assert "error: interrupted; resume with: python launch.py --space space.yaml" in text


def check_confirmation(folder: Path, trial: TrialRecord, text: str) -> None:
    """The killed seed went on from its checkpoint, and the trial, not its seed, is what is registered."""
    (seed,) = study(folder).all_records()[3:]
    assert (seed.name, seed.state, seed.attempts) == ("0000-seed-1", State.COMPLETE, 2)
    assert seed.config == {**(trial.config or {}), "seed": 1}
    assert [epoch.epoch for epoch in seed.epochs] == [0, 1, 2, 3, 4, 5, 6]
    assert {epoch.attempt for epoch in seed.epochs} == {1, 2}
    assert seed.epochs[-1].metrics["train/loss"] != trial.epochs[-1].metrics["train/loss"]
    assert "trial 0-seed-1 goes on after epoch" in text
    assert "2 of 2" in text
    assert "winner: trial 0:" in text
    seed_folder = folder / "runs/end-to-end/trials/0000-seed-1"
    assert list((seed_folder / "checkpoints").iterdir()) == []  # needed only while it was trained
    assert sorted(path.name for path in (seed_folder / "attempts").iterdir()) == ["1", "2"]
    kept = sorted(path.name for path in (seed_folder.with_name("0000") / "checkpoints").iterdir())
    assert kept == ["0005-a2", "0006-a2"]


def check_tracking(folder: Path, trials: list[TrialRecord]) -> None:
    found = runs(folder)
    names = Counter(run.info.run_name for run in found)
    assert names == dict.fromkeys(
        ["end-to-end", "trial-0000", "trial-0001", "trial-0002", "trial-0000-seed-1"], 1
    )
    status = {run.info.run_name: run.info.status for run in found}
    assert status["end-to-end"] == "FINISHED"
    assert status["trial-0000"] == status["trial-0000-seed-1"] == "FINISHED"
    assert status["trial-0001"] == "KILLED"
    client = mlflow.MlflowClient(f"sqlite:///{folder}/mlflow.db")
    parent = next(run for run in found if run.info.run_name == "end-to-end")
    files = {file.path for file in client.list_artifacts(parent.info.run_id)}
    assert files >= {"report.html", "report.md", "best.yaml", "trials.csv"}
    run = next(run for run in found if run.info.run_name == "trial-0000")
    history = client.get_metric_history(run.info.run_id, "val/top1")
    assert [(point.step, point.value) for point in sorted(history, key=lambda point: point.step)] == [
        (epoch.epoch, epoch.metrics["val/top1"]) for epoch in trials[0].epochs
    ]


def check_registered_encoder(folder: Path) -> None:
    """In a fresh process the registered model gives the features of the winner's own encoder."""
    import torch

    from selfcon.checkpoints.folder import load_checkpoint, newest_valid
    from selfcon.config import TrainConfig
    from selfcon.data.augment import normalise
    from selfcon.data.dataset import load_dataset
    from selfcon.model import build_encoder

    winner = max((t for t in records(folder) if t.value is not None), key=lambda t: (t.value or 0, -t.number))
    assert winner.config is not None
    config = TrainConfig.from_flat(winner.config)
    dataset = load_dataset(config.data)
    checkpoint = newest_valid(folder / "runs/end-to-end/trials" / f"{winner.number:04d}" / "checkpoints")
    assert checkpoint is not None
    encoder = build_encoder(config.model, image_size=dataset.image_size)
    encoder.load_state_dict(load_checkpoint(checkpoint, config=config).model)
    encoder.eval()
    images = next(dataset.test.plain([torch.arange(17)])).float() / 255
    np.save(folder / "images.npy", images.numpy())
    uri = f"sqlite:///{folder}/mlflow.db"
    subprocess.run([sys.executable, "-c", PREDICT, uri], cwd=folder, check=True)
    with torch.inference_mode():
        expected = encoder.features(normalise(images, mean=dataset.mean, std=dataset.std))[-1].numpy()
    with np.load(folder / "features.npz") as predicted:
        for features, count in zip(predicted.values(), (1, 3, 17), strict=True):
            np.testing.assert_allclose(features, expected[:count], atol=1e-5)


def check_finished_search_shows_its_result(folder: Path) -> None:
    started = time.monotonic()
    text = subprocess.run(command(), cwd=folder, check=True, capture_output=True, text=True).stdout
    assert time.monotonic() - started < 60  # no cluster is started for it
    assert "winner: trial" in text
    assert "test/top1" in text
    assert len(runs(folder)) == 5


def check_files(folder: Path) -> None:
    """What people open lies in the folder of the search; the winner as a space file can be started."""
    place = folder / "runs/end-to-end"
    assert (place / "trials.csv").read_text().count("\n") == 1 + 3
    best = load_space(place / "best.yaml")
    assert best.train["optim.learning_rate"] == 0.05
    dry = subprocess.run(
        [*command()[:3], str(place / "best.yaml"), "--dry-run"], cwd=folder, capture_output=True, check=False
    )
    assert dry.returncode == 0
    (launches, commits) = zip(
        *[(one.number, one.commit) for one in study(folder).snapshot().launches], strict=True
    )
    assert launches == (1, 2, 3, 4)
    assert len(set(commits)) == 1


def check_reproduction(folder: Path) -> None:
    """The trial that was killed and went on is what comes out when nothing interrupts it."""
    before = records(folder)
    with launched(folder, "--reproduce", "0") as process:
        text = rest_of(process)
    assert process.returncode == 0, text
    assert "values of 7 epochs are identical" in text
    assert records(folder) == before
    assert len(runs(folder)) == 5
    assert list((folder / "runs/end-to-end/reproductions/trials/0000-again-1/checkpoints").iterdir()) == []


WATCH = """
import os, pathlib, threading, time
import ray
from ray.util import placement_group_table
from tune_jobs.options import LaunchOptions
from tune_jobs.study.records import State
from tune_jobs.commands.search import run_search
from tune_jobs.space import load_space
from tune_jobs.study.search_study import SearchStudy

user = os.fdopen(os.dup(1), "w")  # what is printed during a search goes to its log
decided = threading.Event()
finish = SearchStudy._finish

def note(study, number, state, *rest):
    finish(study, number, state, *rest)
    if state == State.PRUNED:
        decided.set()

def watch():
    decided.wait()
    start = time.monotonic()
    while True:
        created = [g for g in placement_group_table().values() if g["state"] == "CREATED"]
        of_workers = [g for g in created if any("CPU" in bundle for bundle in g["bundles"].values())]
        if len(of_workers) == 1 and ray.available_resources().get("CPU", 0) >= 1:
            print(f"freed after {time.monotonic() - start:.1f} s", file=user, flush=True)
            os._exit(0)
        time.sleep(0.1)

SearchStudy._finish = note
threading.Thread(target=watch, daemon=True).start()
path = pathlib.Path("space.yaml")
run_search(load_space(path), LaunchOptions(space=path))
"""


def test_a_pruned_trial_frees_its_workers_within_five_seconds(tmp_path: Path) -> None:
    """Two long trials at once: one collapses, so its placement group goes and its CPU is free."""
    text = SPACE.replace("num_trials: 3, seed: 0, max_concurrent: 1", "num_trials: 2, max_concurrent: 2")
    text = text.replace("  - {model.projection_normalization: batch, optim.learning_rate: 1e-6}\n", "")
    (tmp_path / "space.yaml").write_text(text.replace("epochs: 6", "epochs: 500"))
    done = subprocess.run(
        [sys.executable, "-c", WATCH], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    freed = re.search(r"freed after ([\d.]+) s", done.stdout)
    assert freed, done.stdout + done.stderr
    assert float(freed[1]) <= 5.0
