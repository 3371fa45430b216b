"""End-to-end searches with a local Ray cluster, SQLite, MLflow and training on the digits."""

import re
import runpy
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mlflow
import numpy as np
import pytest

from tests.launches import launched, started
from tests.project import ROOT
from tune_jobs.space import load_space
from tune_jobs.study.records import Reason, State, TrialRecord
from tune_jobs.study.search_study import SearchStudy

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

SPACE = """
name: end-to-end
description: Three trials, one at a time. One learns, one has a tiny learning rate, one collapses.
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

FLAGS = ("--space", "space.yaml")
CONFIRM = "confirm: {top_k: 1, seeds: 2}\n"


@dataclass(frozen=True)
class InterruptedSearch:
    """A search that completed after two interruptions: its folder and the output of the last two launches."""

    folder: Path
    second: str
    third: str


@pytest.fixture(scope="module")
def search(tmp_path_factory: pytest.TempPathFactory) -> InterruptedSearch:
    """Return a search that was killed in a trial, then interrupted in a repetition, then completed."""
    folder = tmp_path_factory.mktemp("search")
    (folder / "space.yaml").write_text(SPACE + CONFIRM)
    with launched(folder, *FLAGS) as first:
        first.read_until("trial 0 +epoch 2/6")
        first.process.send_signal(signal.SIGKILL)
        first.process.wait()
    with launched(folder, *FLAGS) as second:
        second_text = second.read_until("trial 0-seed-1 epoch 2/6")
        second.process.send_signal(signal.SIGTERM)
        code, text = second.end()
        assert code == 143, text
    with launched(folder, *FLAGS) as third:
        code, third_text = third.end()
        assert code == 0, third_text
    return InterruptedSearch(folder, second_text + text, third_text)


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


def test_a_killed_and_interrupted_search_resumes_and_completes(search: InterruptedSearch) -> None:
    assert re.search("trial 0 +resumes after epoch", search.second)
    assert "resume with: python launch.py --space space.yaml" in search.second
    trials = records(search.folder)
    assert [trial.number for trial in trials] == [0, 1, 2]
    assert [trial.attempts for trial in trials] == [2, 1, 1]
    assert [trial.state for trial in trials] == [State.COMPLETE, State.PRUNED, State.PRUNED]
    assert [trial.reason for trial in trials] == [None, Reason.RUNG, Reason.COLLAPSED]
    assert [epoch.epoch for epoch in trials[0].epochs] == [0, 1, 2, 3, 4, 5, 6]
    assert "pruned: 2 (1 rung, 1 collapsed)" in search.third
    launches = [(launch.number, launch.commit) for launch in study(search.folder).snapshot().launches]
    assert [number for number, _ in launches] == [1, 2, 3]
    assert len({commit for _, commit in launches}) == 1


def test_an_interrupted_repetition_resumes_from_its_checkpoint(search: InterruptedSearch) -> None:
    """The winner is the trial, not its repetition."""
    folder, text = search.folder, search.third
    trial = records(folder)[0]
    (seed,) = study(folder).all_records()[3:]
    assert (seed.name, seed.state, seed.attempts) == ("0000-seed-1", State.COMPLETE, 2)
    assert seed.config == {**(trial.config or {}), "seed": 1}
    assert [epoch.epoch for epoch in seed.epochs] == [0, 1, 2, 3, 4, 5, 6]
    assert {epoch.attempt for epoch in seed.epochs} == {1, 2}
    assert seed.epochs[-1].metrics["train/loss"] != trial.epochs[-1].metrics["train/loss"]
    assert "trial 0-seed-1 resumes after epoch" in text
    assert "2 of 2" in text
    assert "winner: trial 0:" in text
    seed_folder = folder / "runs/end-to-end/trials/0000-seed-1"
    assert list((seed_folder / "checkpoints").iterdir()) == []  # needed only during training
    assert sorted(path.name for path in (seed_folder / "attempts").iterdir()) == ["1", "2"]
    kept = sorted(path.name for path in (seed_folder.with_name("0000") / "checkpoints").iterdir())
    assert (len(kept), kept[-1]) == (2, "0006-a2")


def test_mlflow_has_one_run_per_trial_with_its_metrics(search: InterruptedSearch) -> None:
    folder, trials = search.folder, records(search.folder)
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


def test_the_registered_encoder_gives_the_features_of_the_best_checkpoint(search: InterruptedSearch) -> None:
    """The registered model is loaded in a fresh process without Ray and Optuna."""
    folder = search.folder
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


def test_a_completed_search_shows_its_result_again(search: InterruptedSearch) -> None:
    started_s = time.monotonic()
    with launched(search.folder, *FLAGS) as again:
        code, text = again.end()
    assert code == 0, text
    assert time.monotonic() - started_s < 60  # no cluster is started
    assert "winner: trial" in text
    assert "test/top1" in text
    assert len(runs(search.folder)) == 5


def test_the_best_trial_is_a_space_file_in_the_folder_of_the_search(search: InterruptedSearch) -> None:
    place = search.folder / "runs/end-to-end"
    assert (place / "trials.csv").read_text().count("\n") == 1 + 3
    best = load_space(place / "best.yaml")
    assert best.train["optim.learning_rate"] == 0.05
    with launched(search.folder, "--space", str(place / "best.yaml"), "--dry-run") as dry_run:
        code, text = dry_run.end()
    assert code == 0, text


def test_without_interruption_a_trial_gives_the_values_of_the_resumed_one(search: InterruptedSearch) -> None:
    folder = search.folder
    before = records(folder)
    with launched(folder, *FLAGS, "--reproduce", "0") as reproduction:
        code, text = reproduction.end()
    assert code == 0, text
    assert "values of 7 epochs are identical" in text
    assert records(folder) == before
    assert len(runs(folder)) == 5
    assert list((folder / "runs/end-to-end/reproductions/trials/0000-again-1/checkpoints").iterdir()) == []


def example(name: str) -> Callable[..., None]:
    main: Callable[..., None] = runpy.run_path(str(ROOT / "examples" / name))["main"]
    return main


def test_the_examples_and_the_readme_work_with_a_completed_search(
    search: InterruptedSearch, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(search.folder)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)

    example("read_study.py")("runs/end-to-end/study.db")
    table, *others = re.split(r"\n(?=end-to-end/)", capsys.readouterr().out)
    assert len(others) == 2  # the repetitions, and the reproduction
    assert table.startswith("end-to-end/end-to-end: 3 trials\n")
    assert len(re.findall(r"^ +\d+  (?:COMPLETE|PRUNED) ", table, re.MULTILINE)) == 3
    assert "best: trial" in table

    example("load_encoder.py")()
    printed = capsys.readouterr().out
    assert "features of 359 test images: (359, 64)" in printed
    assert float(re.findall(r"pyfunc differs by (\S+)", printed)[0]) < 1e-4

    (block,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    assert names["features"].shape == (3, 64)
    assert names["features"].dtype == np.float32


WATCH = """
import os, sys, threading, time
import ray
from ray.util import placement_group_table
from tune_jobs.__main__ import main
from tune_jobs.study.records import State
from tune_jobs.study.search_study import SearchStudy

user = os.fdopen(os.dup(1), "w")  # stdout is redirected to the log during a search
decided = threading.Event()
finish = SearchStudy._finish

def finish_and_notify(study, number, state, *rest):
    finish(study, number, state, *rest)
    if state == State.PRUNED:
        decided.set()

def watch():
    decided.wait()
    start = time.monotonic()
    while True:
        created = [g for g in placement_group_table().values() if g["state"] == "CREATED"]
        worker_groups = [g for g in created if any("CPU" in bundle for bundle in g["bundles"].values())]
        if len(worker_groups) == 1 and ray.available_resources().get("CPU", 0) >= 1:
            print(f"freed after {time.monotonic() - start:.1f} s", file=user, flush=True)
            return
        time.sleep(0.1)

SearchStudy._finish = finish_and_notify
threading.Thread(target=watch, daemon=True).start()
sys.exit(main(["--space", "space.yaml"]))
"""


def test_a_pruned_trial_frees_its_workers_and_a_second_interrupt_exits_at_once(tmp_path: Path) -> None:
    """Two long trials run, one collapses: its placement group is removed and its CPU is freed."""
    text = SPACE.replace("num_trials: 3, seed: 0, max_concurrent: 1", "num_trials: 2, max_concurrent: 2")
    text = text.replace("  - {model.projection_normalization: batch, optim.learning_rate: 1e-6}\n", "")
    (tmp_path / "space.yaml").write_text(text.replace("epochs: 6", "epochs: 500"))
    with started([sys.executable, "-c", WATCH], tmp_path) as launch:
        freed = re.search(r"freed after ([\d.]+) s", launch.read_until("freed after"))
        assert freed
        assert float(freed[1]) <= 5.0
        launch.process.send_signal(signal.SIGINT)
        launch.read_until("^stopping: ")
        launch.process.send_signal(signal.SIGINT)
        interrupted_s = time.monotonic()
        code, text = launch.end()
    assert time.monotonic() - interrupted_s < 20  # Ray's processes are killed without waiting for an epoch
    assert code == 130, text
    assert "error: interrupted; resume with: python launch.py --space space.yaml" in text
