"""All forms of a registered encoder: served, pyfunc, torch, torchvision."""

import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow.pyfunc
import mlflow.pytorch
import mlflow_screenshot
import numpy as np
import pytest
import torch
from mlflow import MlflowClient
from playwright.sync_api import Browser, Page
from torch import Tensor

from selfcon.checkpoints.folder import TrainingState, save_checkpoint
from selfcon.config import TrainConfig
from selfcon.data.augment import normalise
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.model import build_encoder
from tests.project import ROOT
from tune_jobs.registry import load_encoder
from tune_jobs.registry.register import publish
from tune_jobs.study.records import TrialRecord
from tune_jobs.terminal.quiet import CLIENT_SETTINGS
from tune_jobs.tracking.runs import TrackedDataset
from tune_jobs.tracking.tracker import Tracker

READY_TIMEOUT_S = 120.0
URI = "models:/selfcon-digits@champion"
# The width of torchvision's networks; images of 8 pixels get the small stem.
FIELDS = {"model.exit_stages": (2,), "optim.epochs": 3, "evaluate.probe_epochs": 3}


@dataclass(frozen=True)
class Registered:
    """Folder with an MLflow store and one published encoder, fully exported."""

    folder: Path
    dataset: ImageDataset

    @property
    def environment(self) -> dict[str, str]:
        # As in an activated environment: MLflow starts uvicorn by its name.
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        store = f"sqlite:///{self.folder}/mlflow.db"
        return {**os.environ, **CLIENT_SETTINGS, "PATH": path, "MLFLOW_TRACKING_URI": store}

    @property
    def model_folder(self) -> Path:
        (found,) = [path.parent for path in self.folder.glob("mlruns/**/MLmodel")]
        return found


@pytest.fixture(scope="module")
def registered(
    tmp_path_factory: pytest.TempPathFactory, make_record: Callable[..., TrialRecord]
) -> Iterator[Registered]:
    config, folder = TrainConfig.from_flat(FIELDS), tmp_path_factory.mktemp("registered")
    dataset = load_dataset(config.data)
    torch.manual_seed(1)
    network = build_encoder(config.model, image_size=dataset.image_size)
    network(torch.randn(64, 3, dataset.image_size, dataset.image_size))  # statistics as after training
    state = TrainingState(model=network.state_dict(), optimizer={}, epoch=3, step=60, history=[], cost={})
    save_checkpoint(folder / "0003-a1", state, config=config)
    confusion = {"epoch": 3, "totals": [9] * 10, "correct": [8] * 10, "pairs": [[3, 8, 5], [1, 7, 5]]}
    records = [replace(make_record(number, parameters=FIELDS), confusion=confusion) for number in range(5)]
    record, uri = records[2], f"sqlite:///{folder}/mlflow.db"
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("MLFLOW_TRACKING_URI", uri)
        tracker = Tracker(
            uri=uri, experiment="e", search="e", description="", tags={}, metric="val/top1",
            dataset=TrackedDataset(
                name="digits", digest=dataset.digest, source="digits",
                class_names=dataset.class_names, profile={},
            ),
        )  # fmt: skip
        runs: list[str] = []
        tracker.sync(records, remember_run=lambda _record, run_id: runs.append(run_id))
        publish(
            uri=uri, run_id=runs[record.number], registered_model="selfcon-digits", search="e", record=record,
            checkpoint=folder / "0003-a1", config=config,
        )  # fmt: skip
        yield Registered(folder, dataset)


@pytest.fixture(scope="module")
def served(registered: Registered, free_port: Callable[[], int]) -> Iterator[str]:
    """Address of `mlflow models serve`, started as documented."""
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "models",
        "serve",
        "--model-uri",
        URI,
        "--env-manager",
        "local",
    ]
    log = registered.folder / "serve.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)], cwd=registered.folder,
            env=registered.environment, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        wait_until_ready(f"http://127.0.0.1:{port}/ping", process, log)
        yield f"http://127.0.0.1:{port}"
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)
        process.wait(timeout=30)


def wait_until_ready(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + READY_TIMEOUT_S
    while process.poll() is None and time.monotonic() < deadline:
        try:
            urllib.request.urlopen(address, timeout=2).close()
        except OSError:
            time.sleep(0.2)
        else:
            return
    pytest.fail(f"no answer at {address}:\n{log.read_text()}")


def request_features(address: str, images: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    body = json.dumps({"inputs": images.tolist()}).encode()
    request = urllib.request.Request(
        f"{address}/invocations", data=body, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=60) as response:
        return np.array(json.load(response)["predictions"], dtype=np.float32)


def torchvision_features(registered: Registered, images: Tensor) -> Tensor:
    """Return the features of torchvision's network, built by the code of the model card."""
    card = (registered.model_folder / "README.md").read_text()
    (code,) = re.findall(r"```python\n(import safetensors.*?)```", card, re.DOTALL)
    names: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(registered.model_folder)
        exec(code, names)
    dataset = registered.dataset
    network: torch.nn.Module = names["network"]
    features: Tensor = network(normalise(images, mean=dataset.mean, std=dataset.std))
    return features


def test_every_form_of_the_encoder_gives_the_same_features(registered: Registered, served: str) -> None:
    images = np.random.default_rng(0).random((5, 3, 8, 8), dtype=np.float32)
    with torch.no_grad():
        expected = load_encoder(URI)(torch.from_numpy(images)).numpy()
        found = {
            "served": request_features(served, images),
            "pyfunc": mlflow.pyfunc.load_model(URI).predict(images),
            "pytorch": mlflow.pytorch.load_model(URI)(torch.from_numpy(images)).numpy(),
            "torchvision": torchvision_features(registered, torch.from_numpy(images)).numpy(),
        }
    assert np.ptp(expected) > 0.1
    for name, features in found.items():
        np.testing.assert_allclose(features, expected, rtol=1e-5, atol=1e-5, err_msg=name)


@pytest.mark.parametrize("num_images", [1, 17])
def test_a_served_encoder_accepts_any_batch_size(served: str, num_images: int) -> None:
    assert request_features(served, np.zeros((num_images, 3, 8, 8), np.float32)).shape == (num_images, 512)


def test_a_registered_encoder_classifies_images(registered: Registered) -> None:
    encoder, test = load_encoder(URI), registered.dataset.test
    (images,) = test.plain([torch.arange(len(test))])
    named = encoder.ensemble_logits(images).argmax(dim=1)
    metrics = json.loads((registered.model_folder / "encoder/encoder.json").read_text())["metrics"]
    assert (named == test.labels_N).double().mean().item() == pytest.approx(metrics["test/ensemble_top1"])
    assert encoder.class_names == registered.dataset.class_names


def documented(language: str) -> str:
    """Return the only code block in this language of docs/encoder.md."""
    text = (ROOT / "docs/encoder.md").read_text()
    (code,) = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return str(code)


def test_the_documented_client_in_python_works(served: str) -> None:
    code = documented("python").replace("http://127.0.0.1:5001", served).replace("16, 16", "8, 8")
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["features"].shape == (2, 512)


def test_the_documented_client_in_the_shell_works(
    registered: Registered, served: str, require_program: Callable[[str], str]
) -> None:
    require_program("curl")
    code = documented("bash").replace("http://127.0.0.1:5001", served)
    done = subprocess.run(
        ["bash", "-c", code], cwd=registered.model_folder, capture_output=True, text=True, check=True
    )
    assert np.array(json.loads(done.stdout)["predictions"]).shape == (2, 512)


@pytest.mark.browser
def test_the_mlflow_ui_shows_compared_trials_artifacts_the_alias_and_the_card(
    registered: Registered,
    browser: Browser,
    start_mlflow_server: Callable[..., AbstractContextManager[str]],
    tmp_path: Path,
) -> None:
    with start_mlflow_server(registered.folder) as address:
        client = MlflowClient(address)
        experiment = client.get_experiment_by_name("e")
        assert experiment is not None
        at, version = (browser, address), mlflow_screenshot.newest_champion(client, experiment.experiment_id)
        trials = mlflow_screenshot.trials_of(client, experiment.experiment_id)
        compared = mlflow_screenshot.compared_trials(*at, experiment.experiment_id, trials)
        assert "Comparing 5 Runs" in compared.inner_text("body")
        assert "trial-0004" in compared.inner_text("body")
        of_run = (experiment.experiment_id, version.run_id or "", "confusion_matrix.png")
        files = mlflow_screenshot.artifact(*at, *of_run).inner_text("body")
        for name in ("config.yaml", "confusion_matrix.csv", "exits.png"):
            assert name in files
        model = mlflow_screenshot.registered_model(*at, version.name).inner_text("body")
        assert "Version 1" in model
        assert "@\xa0champion" in model
        card: Page = mlflow_screenshot.model_card(*at, version)
        words = card.inner_text("body")
        assert "Intended use and limits" in words
        assert "test/ensemble_top1" in words
        card.screenshot(path=tmp_path / "card.png")
        assert (tmp_path / "card.png").stat().st_size > 20_000
