import io
import json
import pickletools
import shutil
import subprocess
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import mlflow.artifacts
import mlflow.pytorch
import numpy as np
import pytest
import torch
import yaml
from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities import LoggedModelStatus
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from mlflow.models import Model

from selfcon.checkpoints.folder import TrainingState, save_checkpoint
from selfcon.config import TrainConfig
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.errors import CheckpointError
from selfcon.evaluation.confusion import Confusion
from selfcon.evaluation.evaluate import Evaluation
from selfcon.export import PixelEncoder
from selfcon.model import build_encoder
from tune_jobs.errors import SearchError, TrackingError
from tune_jobs.registry import load_encoder
from tune_jobs.registry.package import digest_of_package, write_package
from tune_jobs.registry.register import Publication, publish
from tune_jobs.study.records import TrialRecord
from tune_jobs.terminal.quiet import CLIENT_SETTINGS
from tune_jobs.tracking.tracker import Tracker

RecordMaker = Callable[..., TrialRecord]
PythonRunner = Callable[..., subprocess.CompletedProcess[str]]

MODEL = "selfcon-digits"
FIELDS = {"model.width": 4, "model.exit_stages": (2,), "optim.epochs": 3, "evaluate.probe_epochs": 3}

EVALUATION = Evaluation({"test/top1": 0.5}, Confusion((), (), ()), None)

NEW_PROCESS = """
import sys
import numpy as np
import mlflow
model = mlflow.pyfunc.load_model("models:/selfcon-digits@champion")
images = np.load("images.npy")
np.savez("features.npz", *[model.predict(images[:count]) for count in (1, 3, 17)])
loaded = [name for name in sys.modules if name.split(".")[0] in ("ray", "optuna", "selfcon", "tune_jobs")]
assert not loaded, loaded
"""


@dataclass(frozen=True)
class Trained:
    """Trial with an encoder, as after a search."""

    config: TrainConfig
    dataset: ImageDataset
    checkpoint: Path
    encoder: PixelEncoder


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    """Return an untrained network, whose batch statistics differ from the initial ones."""
    config = TrainConfig.from_flat(FIELDS)
    dataset = load_dataset(config.data)
    torch.manual_seed(1)
    network = build_encoder(config.model, image_size=dataset.image_size)
    network(torch.randn(64, 3, dataset.image_size, dataset.image_size))
    checkpoint = tmp_path_factory.mktemp("checkpoint") / "0003-a1"
    state = TrainingState(model=network.state_dict(), optimizer={}, epoch=3, step=60, history=[], cost={})
    save_checkpoint(checkpoint, state, config=config)
    return Trained(config, dataset, checkpoint, PixelEncoder(network, mean=dataset.mean, std=dataset.std))


@dataclass(frozen=True)
class Candidate:
    """Tracked trial in a store, with the call that publishes it."""

    uri: str
    run_id: str
    record: TrialRecord
    trained: Trained

    def publish(self, search: str = "exits") -> Publication:
        return publish(
            uri=self.uri,
            run_id=self.run_id,
            registered_model=MODEL,
            search=search,
            record=self.record,
            checkpoint=self.trained.checkpoint,
            config=self.trained.config,
        )

    @property
    def client(self) -> MlflowClient:
        return MlflowClient(tracking_uri=self.uri, registry_uri=self.uri)

    def version(self, number: int) -> ModelVersion:
        return self.client.get_model_version(MODEL, str(number))

    def model_outputs(self) -> list[str]:
        outputs = self.client.get_run(self.run_id).outputs
        assert outputs is not None
        return [output.model_id for output in outputs.model_outputs]

    def points(self, metric: str) -> list[tuple[float, int]]:
        return [(point.value, point.step) for point in self.client.get_metric_history(self.run_id, metric)]


CandidateMaker = Callable[..., Candidate]


@pytest.fixture(scope="module")
def candidate_of(make_record: RecordMaker, trained: Trained) -> CandidateMaker:
    def make(uri: str, *, search: str = "exits", top1: float | None = 0.93, number: int = 7) -> Candidate:
        record = make_record(number, parameters=FIELDS)
        last = {**record.epochs[-1].metrics, "val/top1": top1}
        kept = {name: value for name, value in last.items() if value is not None}
        record = replace(record, epochs=(*record.epochs[:-1], replace(record.epochs[-1], metrics=kept)))
        tracker = Tracker(
            uri=uri, experiment=search, search=search, description="", tags={}, metric="val/top1"
        )
        runs: list[str] = []
        tracker.sync([record], remember_run=lambda _record, run_id: runs.append(run_id))
        return Candidate(uri, runs[0], record, trained)

    return make


@dataclass(frozen=True)
class Published:
    """Folder with an MLflow store and one published encoder, fully exported. Tests must not change it."""

    folder: Path
    candidate: Candidate
    publication: Publication

    @property
    def model_folder(self) -> Path:
        found = [path.parent for path in self.folder.glob("mlruns/**/MLmodel")]
        assert len(found) == 1
        return found[0]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory, candidate_of: CandidateMaker) -> Published:
    folder = tmp_path_factory.mktemp("published")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        candidate = candidate_of(f"sqlite:///{folder / 'mlflow.db'}")
        return Published(folder, candidate, candidate.publish())


@pytest.fixture(scope="module")
def empty_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("empty") / "mlflow.db"
    MlflowClient(tracking_uri=f"sqlite:///{path}")
    return path


@pytest.fixture
def stubs(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Replace evaluation and export by stubs."""

    def write(folder: Path, *_: object, description: Model, **__: object) -> None:
        folder.mkdir()
        description.save(str(folder / "MLmodel"))

    monkeypatch.setattr("tune_jobs.registry.package.write_package", write)
    monkeypatch.setattr("tune_jobs.registry.package.verify_package", lambda *_, **__: None)
    monkeypatch.setattr("selfcon.evaluation.evaluate.evaluate_encoder", lambda *_, **__: EVALUATION)
    return monkeypatch


@pytest.fixture
def store(empty_database: Path, tmp_path: Path, stubs: pytest.MonkeyPatch) -> str:
    """Separate store for one test, with stubs for evaluation and export."""
    stubs.chdir(tmp_path)
    shutil.copy(empty_database, tmp_path / "mlflow.db")
    return f"sqlite:///{tmp_path / 'mlflow.db'}"


def blobs_of(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield every file and every member of every archive, also of nested ones."""
    for path in (path for path in folder.rglob("*") if path.is_file()):
        yield from _unpacked(str(path.relative_to(folder)), path.read_bytes())


def _unpacked(name: str, content: bytes) -> Iterator[tuple[str, bytes]]:
    yield name, content
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            for member in archive.namelist():
                yield from _unpacked(f"{name}!{member}", archive.read(member))


def is_pickle(name: str, content: bytes) -> bool:
    try:
        *_, (_, _, last) = pickletools.genops(content)
    except (ValueError, UnicodeDecodeError, OverflowError):
        last = None
    return last == len(content) - 1 or Path(name).suffix in (".pkl", ".pickle", ".pth")


def test_a_new_process_gets_the_features_of_the_encoder_for_any_batch_size(
    published: Published, trained: Trained, run_python: PythonRunner
) -> None:
    images = np.random.default_rng(5).random((17, 3, 8, 8), dtype=np.float32)
    np.save(published.folder / "images.npy", images)
    done = run_python(NEW_PROCESS, cwd=published.folder, environment=CLIENT_SETTINGS)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    with np.load(published.folder / "features.npz") as features, torch.no_grad():
        for found, count in zip(features.values(), (1, 3, 17), strict=True):
            expected = trained.encoder(torch.from_numpy(images[:count])).numpy()
            assert found.dtype == np.float32
            np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
            assert np.ptp(expected) > 0.1


def test_no_file_of_the_model_is_or_contains_a_pickle(published: Published) -> None:
    blobs = dict(blobs_of(published.model_folder))
    assert any(name.startswith("data/model.pt2!") for name in blobs)
    assert [name for name, content in blobs.items() if is_pickle(name, content)] == []


def test_pickles_in_archives_are_found(tmp_path: Path) -> None:
    torch.save({"weight": torch.zeros(2)}, tmp_path / "model.pt")
    found = [name for name, content in blobs_of(tmp_path) if is_pickle(name, content)]
    assert found == ["model.pt!model/data.pkl"]


def test_the_model_lists_exactly_its_requirements(published: Published) -> None:
    requirements = (published.model_folder / "requirements.txt").read_text().split()
    assert [line.split("==")[0] for line in requirements] == ["mlflow", "torch"]
    assert not any("+" in line for line in requirements)  # a local version is on no package index
    conda = yaml.safe_load((published.model_folder / "conda.yaml").read_text())
    assert conda["dependencies"][-1] == {"pip": requirements}


def test_the_model_has_both_flavors_a_signature_and_an_example(published: Published) -> None:
    description = yaml.safe_load((published.model_folder / "MLmodel").read_text())
    assert set(description["flavors"]) == {"python_function", "pytorch"}
    # exported on the CPU, it must not be moved to a GPU
    assert description["flavors"]["python_function"]["config"] == {"device": "cpu"}
    tensors = {side: json.loads(description["signature"][side])[0] for side in ("inputs", "outputs")}
    assert tensors["inputs"]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 3, 8, 8]}
    assert tensors["outputs"]["tensor-spec"] == {"dtype": "float32", "shape": [-1, 32]}
    assert np.array(json.loads((published.model_folder / "input_example.json").read_text())).shape == (
        2,
        3,
        8,
        8,
    )


def test_the_pytorch_flavor_gives_the_same_features(published: Published, trained: Trained) -> None:
    loaded = mlflow.pytorch.load_model(str(published.model_folder))
    images = torch.rand(4, 3, 8, 8)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), trained.encoder(images), rtol=1e-5, atol=1e-5)


def test_the_version_has_its_origin_and_metrics(published: Published, trained: Trained) -> None:
    publication = published.publication
    version = published.candidate.version(publication.version)
    assert (publication.version, publication.alias, publication.why) == (1, "champion", "the first version")
    assert version.aliases == ["champion"]
    assert version.run_id == published.candidate.run_id
    expected = {
        "selfcon.search": "exits",
        "selfcon.trial": "7",
        "selfcon.data_digest": trained.dataset.digest,
    }
    assert expected.items() <= version.tags.items()
    assert float(version.tags["val/top1"]) == 0.93
    assert float(version.tags["test/top1"]) == publication.metrics["test/top1"]


def test_the_test_metrics_are_on_the_pages_of_the_run_and_the_model(published: Published) -> None:
    metrics = published.publication.metrics
    assert {"test/top1", "test/exit2_top1", "test/ensemble_top1", "test/knn_top1"} == set(metrics)
    for name, value in metrics.items():
        assert published.candidate.points(name) == [(value, 3)]
    (model,) = published.candidate.client.search_logged_models(
        [published.candidate.client.get_run(published.candidate.run_id).info.experiment_id]
    )
    assert model.status == LoggedModelStatus.READY
    assert {"val/top1": 0.93, **metrics} == {metric.key: metric.value for metric in model.metrics or []}
    assert json.loads(model.tags["mlflow.modelVersions"]) == [{"name": MODEL, "version": 1}]
    assert published.candidate.model_outputs() == [model.model_id]


def test_a_registered_encoder_accepts_uint8_images_and_returns_features_of_an_exit(
    published: Published, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", published.candidate.uri)
    images = next(trained.dataset.test.plain([torch.arange(5)]))
    with torch.no_grad():
        assert torch.equal(load_encoder(f"models:/{MODEL}@champion")(images), trained.encoder(images))
        at_exit = load_encoder(f"models:/{MODEL}/1", exit_stage=2)(images)
        network, dataset = trained.encoder.encoder, trained.dataset
        exits = PixelEncoder(network, mean=dataset.mean, std=dataset.std, exit_stage=2)
        assert torch.equal(at_exit, exits(images))


def test_an_unknown_encoder_is_an_error_of_one_line(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", published.candidate.uri)
    with pytest.raises(TrackingError, match=r"^MLflow at sqlite:.*: .*nothing.*$"):
        load_encoder("models:/nothing@champion")


def test_a_server_stores_and_serves_the_encoder(
    mlflow_server: str,
    candidate_of: CandidateMaker,
    trained: Trained,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("selfcon.evaluation.evaluate.evaluate_encoder", lambda *_, **__: EVALUATION)
    candidate = candidate_of(mlflow_server, search="served")
    assert candidate.publish().version == 1
    assert list(tmp_path.iterdir()) == []  # only the server has the files
    monkeypatch.setenv("MLFLOW_TRACKING_URI", mlflow_server)
    images = next(trained.dataset.test.plain([torch.arange(5)]))
    with torch.no_grad():
        assert torch.equal(load_encoder(f"models:/{MODEL}@champion")(images), trained.encoder(images))


def test_an_export_that_differs_is_not_stored(
    candidate_of: CandidateMaker, store: str, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    other = build_encoder(trained.config.model, image_size=8)
    wrong = PixelEncoder(other, mean=trained.dataset.mean, std=trained.dataset.std)

    def write_wrong(folder: Path, *_: object, **named: Any) -> None:
        write_package(folder, wrong, **named)

    monkeypatch.setattr("tune_jobs.registry.package.write_package", write_wrong)
    monkeypatch.setattr("selfcon.evaluation.evaluate.evaluate_encoder", lambda *_, **__: EVALUATION)
    candidate = candidate_of(store)
    with pytest.raises(SearchError, match="must give the features of the trained one within 1e-05"):
        candidate.publish()
    assert candidate.client.search_registered_models() == []


def test_a_second_call_changes_nothing_and_does_not_evaluate_the_test_set_again(
    candidate_of: CandidateMaker, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = candidate_of(store)
    first = candidate.publish()
    monkeypatch.setattr("selfcon.evaluation.evaluate.evaluate_encoder", None)
    assert candidate.publish() == first
    assert len(candidate.client.search_model_versions(f"name = '{MODEL}'")) == 1


# Prefixes of the methods of MlflowClient that change something.
CHANGES = (
    "create_", "delete_", "finalize_", "log_", "set_", "update_", "transition_", "rename_", "restore_",
)  # fmt: skip


class Crash:
    """Raises in call number `at` that changes MLflow or downloads from it, before or after the call."""

    def __init__(self, patch: pytest.MonkeyPatch, *, at: int, is_done: bool) -> None:
        self.calls: list[str] = []
        self._at, self._is_done = at, is_done
        for name in [name for name in dir(MlflowClient) if name.startswith(CHANGES)]:
            patch.setattr(MlflowClient, name, self._crashing(getattr(MlflowClient, name), name))
        patch.setattr(mlflow.artifacts, "download_artifacts", self._crashing(download_artifacts, "download"))

    def _crashing(self, original: Callable[..., Any], name: str) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            self.calls.append(name)
            if len(self.calls) - 1 != self._at:
                return original(*arguments, **named)
            if self._is_done:
                original(*arguments, **named)
            raise KeyboardInterrupt

        return call


@pytest.mark.parametrize("is_done", [False, True], ids=["before", "after"])
def test_after_a_kill_in_any_call_the_alias_names_complete_versions_and_the_next_call_continues(
    candidate_of: CandidateMaker,
    stubs: pytest.MonkeyPatch,
    tmp_path: Path,
    empty_database: Path,
    is_done: bool,
) -> None:
    for at in range(100):
        folder = tmp_path / str(at)
        folder.mkdir()
        stubs.chdir(folder)
        shutil.copy(empty_database, folder / "mlflow.db")
        candidate = candidate_of(f"sqlite:///{folder}/mlflow.db")
        with pytest.MonkeyPatch.context() as patch:
            crash = Crash(patch, at=at, is_done=is_done)
            with suppress(KeyboardInterrupt):
                candidate.publish()
        check_alias(candidate)
        check_published(candidate, candidate.publish())
        if len(crash.calls) <= at:
            break
    assert {"create_logged_model", "log_model_artifacts", "download", "create_model_version"} <= set(
        crash.calls
    )
    assert crash.calls[-1] == "set_registered_model_alias"


def check_alias(candidate: Candidate) -> None:
    """If the alias exists, the files of its version match the SHA-256 in its tag."""
    try:
        version = candidate.client.get_model_version_by_alias(MODEL, "champion")
    except MlflowException:
        return
    with tempfile.TemporaryDirectory() as folder:
        path = download_artifacts(
            f"models:/{MODEL}/{version.version}",
            dst_path=folder,
            tracking_uri=candidate.uri,
            registry_uri=candidate.uri,
        )
        assert digest_of_package(Path(path)) == version.tags["selfcon.sha256"]


def check_published(candidate: Candidate, publication: Publication) -> None:
    check_alias(candidate)
    assert (publication.version, publication.alias) == (1, "champion")
    assert candidate.version(1).aliases == ["champion"]
    assert candidate.points("test/top1") == [(0.5, 3)]
    run = candidate.client.get_run(candidate.run_id)
    (model,) = candidate.client.search_logged_models([run.info.experiment_id])
    assert model.status == LoggedModelStatus.READY
    assert candidate.model_outputs() == [model.model_id]
    assert sorted(metric.key for metric in model.metrics or []) == ["test/top1", "val/top1"]


def test_an_encoder_damaged_during_upload_is_not_published(
    candidate_of: CandidateMaker, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate, send = candidate_of(store), MlflowClient.log_model_artifacts

    def alter(client: MlflowClient, model_id: str, folder: str) -> None:
        path = Path(folder, "README.md")
        path.write_text(path.read_text() + " ")
        send(client, model_id, folder)
        path.write_text(path.read_text()[:-1])

    monkeypatch.setattr(MlflowClient, "log_model_artifacts", alter)
    with pytest.raises(
        SearchError, match=r"the stored encoder must equal the uploaded one, but README\.md differs"
    ):
        candidate.publish()
    assert candidate.client.search_registered_models() == []


def test_a_registered_encoder_that_was_altered_is_refused(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", published.candidate.uri)
    path = published.model_folder / "encoder/encoder.json"
    content = path.read_text()
    path.write_text(content.replace('"image_size": 8', '"image_size": 9'))
    try:
        with pytest.raises(CheckpointError, match=r"selfcon-digits@champion: damaged, .* encoder\.json"):
            load_encoder(f"models:/{MODEL}@champion")
    finally:
        path.write_text(content)


def test_the_version_has_the_card_intervals_and_hashes(published: Published) -> None:
    version = published.candidate.version(1)
    card = (published.model_folder / "README.md").read_text()
    assert card.startswith(f"# {MODEL}: an encoder of digits")
    assert version.description
    assert card.startswith(version.description)
    assert len(version.description) <= 5000
    assert version.tags["selfcon.sha256"] == digest_of_package(published.model_folder)
    low, high = map(float, version.tags["interval/val/top1"].split(" to "))
    assert low < 0.93 < high


def test_only_a_significantly_better_version_becomes_champion(
    candidate_of: CandidateMaker, store: str
) -> None:
    assert candidate_of(store, top1=0.90, number=0).publish().alias == "champion"
    slightly_better = candidate_of(store, top1=0.91, number=1)
    assert slightly_better.publish().alias == "challenger"
    assert "is not more than half of its 95 % interval" in slightly_better.publish().why
    clearly_better = candidate_of(store, top1=0.99, number=2)
    assert clearly_better.publish().alias == "champion"
    assert [clearly_better.version(number).aliases for number in (1, 2, 3)] == [
        [],
        ["challenger"],
        ["champion"],
    ]


def test_a_second_call_does_not_move_the_alias_of_a_later_version(
    candidate_of: CandidateMaker, store: str
) -> None:
    first = candidate_of(store, top1=0.90, number=0)
    first.publish()
    candidate_of(store, top1=0.99, number=1).publish()
    assert first.publish().version == 1
    assert [first.version(number).aliases for number in (1, 2)] == [[], ["champion"]]


def test_a_champion_of_another_origin_is_kept(candidate_of: CandidateMaker, store: str) -> None:
    candidate = candidate_of(store)
    candidate.client.create_registered_model(MODEL)
    candidate.client.create_model_version(MODEL, source="somewhere/else", run_id=candidate.run_id)
    candidate.client.set_registered_model_alias(MODEL, "champion", "1")
    publication = candidate.publish()
    assert (publication.version, publication.alias) == (2, "challenger")
    assert candidate.version(1).aliases == ["champion"]


def test_a_trial_without_top1_is_refused(candidate_of: CandidateMaker, store: str) -> None:
    candidate = candidate_of(store, top1=None)
    with pytest.raises(SearchError, match="trial 7 has no val/top1, by which encoders are compared"):
        candidate.publish()
    assert candidate.points("test/top1") == []


def test_a_damaged_checkpoint_is_refused(
    candidate_of: CandidateMaker, store: str, trained: Trained, tmp_path: Path
) -> None:
    candidate = candidate_of(store)
    damaged = replace(trained, checkpoint=shutil.copytree(trained.checkpoint, tmp_path / "copy"))
    (damaged.checkpoint / "model.safetensors").write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: damaged"):
        replace(candidate, trained=damaged).publish()
    assert candidate.client.search_registered_models() == []


def test_an_unavailable_store_is_a_tracking_error(
    candidate_of: CandidateMaker, store: str, monkeypatch: pytest.MonkeyPatch, free_port: Callable[[], int]
) -> None:
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(TrackingError, match=r"^MLflow at http://127\.0\.0\.1:\d+: .*$"):
        replace(candidate_of(store), uri=f"http://127.0.0.1:{free_port()}").publish()
