import json
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from selfcon.checkpoints.folder import TrainingState, save_checkpoint
from selfcon.config import ModelConfig, TrainConfig
from selfcon.data.augment import normalise
from selfcon.data.dataset import ImageDataset, load_dataset
from selfcon.errors import CheckpointError, ConfigError
from selfcon.evaluation.evaluate import evaluate_encoder
from selfcon.export import (
    PixelEncoder,
    encoder_of_checkpoint,
    load_encoder,
    save_backbone,
    save_encoder,
    torchvision_state_dict,
)
from selfcon.model import SelfConEncoder, build_encoder
from tests.selfcon.torchvision_twins import as_if_trained, twin_of

CONFIG = TrainConfig.from_flat({"model.width": 4, "model.exit_stages": (1, 2), "model.exit_depth": "small"})


@pytest.fixture(scope="module")
def dataset() -> ImageDataset:
    return load_dataset(CONFIG.data)


@pytest.fixture
def encoder(dataset: ImageDataset) -> SelfConEncoder:
    """A network whose batch statistics are not the initial ones, as after training."""
    torch.manual_seed(0)
    network = build_encoder(CONFIG.model, image_size=dataset.image_size)
    network(torch.randn(64, 3, dataset.image_size, dataset.image_size))
    return network.eval()


@pytest.fixture
def saved(tmp_path: Path, encoder: SelfConEncoder, dataset: ImageDataset) -> Path:
    folder = tmp_path / "encoder"
    evaluation = evaluate_encoder(encoder, dataset, config=CONFIG, split="test")
    save_encoder(
        folder, encoder=encoder, config=CONFIG, dataset=dataset, metrics=evaluation.accuracies,
        probes=evaluation.probes,
    )  # fmt: skip
    return folder


def images_of(dataset: ImageDataset, num_images: int) -> Tensor:
    return next(iter(dataset.validation.plain([torch.arange(num_images)])))


def images_of_test_set(dataset: ImageDataset) -> Tensor:
    return next(iter(dataset.test.plain([torch.arange(len(dataset.test))])))


def features_by_hand(encoder: SelfConEncoder, images_NCHW: Tensor, dataset: ImageDataset) -> list[Tensor]:
    with torch.no_grad():
        return encoder.features(normalise(images_NCHW.float() / 255, mean=dataset.mean, std=dataset.std))


@pytest.mark.parametrize(("exit_stage", "index"), [(None, 2), (1, 0), (2, 1)])
def test_loaded_encoder_returns_the_features_of_its_exit(
    saved: Path, encoder: SelfConEncoder, dataset: ImageDataset, exit_stage: int | None, index: int
) -> None:
    images = images_of(dataset, 5)
    expected = features_by_hand(encoder, images, dataset)[index]
    loaded = load_encoder(saved, exit_stage=exit_stage)
    with torch.no_grad():
        assert torch.equal(loaded(images.float() / 255), expected)
    assert expected.shape == (5, loaded.feature_dim)


def test_uint8_images_give_the_features_of_float_images(saved: Path, dataset: ImageDataset) -> None:
    loaded = load_encoder(str(saved))
    images = images_of(dataset, 3)
    with torch.no_grad():
        assert torch.equal(loaded(images), loaded(images.float() / 255))


def test_features_do_not_depend_on_the_rest_of_the_batch(saved: Path, dataset: ImageDataset) -> None:
    loaded = load_encoder(saved).train()
    images = images_of(dataset, 9)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images)[:1], loaded(images[:1]), rtol=1e-5, atol=1e-6)
    assert not any(module.training for module in loaded.modules())


def test_float64_network_returns_float32_features(encoder: SelfConEncoder, dataset: ImageDataset) -> None:
    images = images_of(dataset, 4)
    single = PixelEncoder(encoder, mean=dataset.mean, std=dataset.std)(images)
    double = PixelEncoder(encoder.double(), mean=dataset.mean, std=dataset.std)(images)
    assert double.dtype == torch.float32
    torch.testing.assert_close(double, single, rtol=1e-5, atol=1e-5)


def test_float64_network_is_saved_in_float32(
    tmp_path: Path, encoder: SelfConEncoder, dataset: ImageDataset
) -> None:
    save_encoder(tmp_path, encoder=encoder.double(), config=CONFIG, dataset=dataset, metrics={})
    loaded = load_encoder(tmp_path)
    assert {value.dtype for value in loaded.parameters()} == {torch.float32}


def test_loading_does_not_change_the_random_generator(saved: Path) -> None:
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    load_encoder(saved)
    assert torch.equal(torch.rand(4), expected)


def test_description_has_config_data_metrics_and_digests(saved: Path, dataset: ImageDataset) -> None:
    description = json.loads((saved / "encoder.json").read_text())
    assert description["dataset"] == "digits"
    assert description["data_digest"] == dataset.digest
    assert description["class_names"] == list(dataset.class_names)
    assert description["exit_stages"] == [1, 2]
    assert 0.3 < description["metrics"]["test/top1"] < 1
    assert sorted(description["sha256"]) == [
        "backbone.safetensors", "encoder.safetensors", "probes.safetensors"
    ]  # fmt: skip
    assert TrainConfig.from_flat(description["config"]) == CONFIG


def test_stage_without_an_exit_is_rejected(saved: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"exit_stage: expected one of the stages with an exit \(1, 2\), got 3"
    ):
        load_encoder(saved, exit_stage=3)


def test_error_for_an_encoder_without_exits(dataset: ImageDataset) -> None:
    network = build_encoder(
        TrainConfig.from_flat({"model.width": 4, "model.exit_stages": ()}).model, image_size=8
    )
    with pytest.raises(ConfigError, match=r"exit_stage: expected none, as there is no exit, got 1"):
        PixelEncoder(network, mean=dataset.mean, std=dataset.std, exit_stage=1)


def test_accuracy_of_ensemble_logits_equals_the_reported_metric(saved: Path, dataset: ImageDataset) -> None:
    loaded = load_encoder(saved)
    images = images_of_test_set(dataset)
    logits_NK = loaded.ensemble_logits(images)
    assert logits_NK.shape == (len(images), len(loaded.class_names)) == (len(images), 10)
    torch.testing.assert_close(logits_NK.exp().sum(dim=1), torch.ones(len(images)))
    right = (logits_NK.argmax(dim=1) == dataset.test.labels_N).double().mean().item()
    metrics = json.loads((saved / "encoder.json").read_text())["metrics"]
    assert right == pytest.approx(metrics["test/ensemble_top1"], abs=1e-12)
    assert loaded.class_names == dataset.class_names


def test_error_for_an_encoder_without_probes(
    tmp_path: Path, encoder: SelfConEncoder, dataset: ImageDataset
) -> None:
    save_encoder(tmp_path, encoder=encoder, config=CONFIG, dataset=dataset, metrics={})
    with pytest.raises(ConfigError, match="ensemble_logits: expected an encoder that was saved with its"):
        load_encoder(tmp_path).ensemble_logits(images_of(dataset, 2))


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(3, 8, 8), r"images: expected shape \(N, 3, H, W\), got \(3, 8, 8\)"),
        (torch.zeros(2, 1, 8, 8), r"images: expected shape \(N, 3, H, W\), got \(2, 1, 8, 8\)"),
        (torch.zeros(2, 3, 8, 8).double(), r"images: expected float32 in \[0, 1\] or uint8, got float64"),
    ],
)
def test_invalid_image_batches_are_rejected(saved: Path, images: Tensor, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_encoder(saved)(images)


FILES = ["encoder.safetensors", "probes.safetensors", "backbone.safetensors"]


@pytest.mark.parametrize("name", [*FILES, "encoder.json"])
def test_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load_encoder(saved)


@pytest.mark.parametrize("name", FILES)
def test_altered_files_are_rejected(saved: Path, name: str) -> None:
    path = saved / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=f"{name}: damaged, its SHA-256"):
        load_encoder(saved)


@pytest.mark.parametrize("text", ["{", "[]", '{"version": 2, "sha256": ""}', '{"version": 1}'])
def test_invalid_description_is_rejected(saved: Path, text: str) -> None:
    (saved / "encoder.json").write_text(text)
    with pytest.raises(CheckpointError, match=r"encoder\.json: (damaged|expected format version 2)"):
        load_encoder(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": None}, "not an encoder of this version: 'mean'"),
        (
            {"config": {"model.width": 8}},
            r"encoder\.safetensors: of another network: missing: exits\.layer2\.fc",
        ),
    ],
)
def test_description_of_another_network_is_rejected(
    saved: Path, change: dict[str, Any], message: str
) -> None:
    path = saved / "encoder.json"
    description = json.loads(path.read_text()) | change
    path.write_text(json.dumps({name: value for name, value in description.items() if value is not None}))
    with pytest.raises(CheckpointError, match=message):
        load_encoder(saved)


def test_encoder_of_checkpoint_equals_the_saved_network(
    tmp_path: Path, encoder: SelfConEncoder, dataset: ImageDataset
) -> None:
    state = TrainingState(
        model=encoder.double().state_dict(), optimizer={}, epoch=1, step=1, history=[], cost={}
    )
    save_checkpoint(tmp_path, state, config=CONFIG)
    found = encoder_of_checkpoint(tmp_path, config=CONFIG, dataset=dataset)
    assert not found.training
    images = torch.rand(3, 3, 8, 8, dtype=torch.float64)
    assert torch.equal(found.features(images)[-1], encoder.features(images)[-1])
    with pytest.raises(CheckpointError, match="of another configuration"):
        encoder_of_checkpoint(tmp_path, config=TrainConfig(), dataset=dataset)


def test_checkpoint_of_another_network_is_rejected(tmp_path: Path, dataset: ImageDataset) -> None:
    state = TrainingState(
        model={"backbone.conv1.weight": torch.zeros(4, 3, 3, 3)},
        optimizer={}, epoch=1, step=1, history=[], cost={},
    )  # fmt: skip
    save_checkpoint(tmp_path, state, config=CONFIG)
    with pytest.raises(
        CheckpointError, match=r"of another network: missing: backbone\.bn1\.weight, .* more$"
    ):
        encoder_of_checkpoint(tmp_path, config=CONFIG, dataset=dataset)


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("resnet18", 96),
        ("resnet18", 32),
        ("resnet50", 96),
        ("vgg16_bn", 96),
        ("vgg16_bn", 32),
        ("efficientnet_b0", 96),
        ("efficientnet_b0", 32),
        ("convnext_tiny", 96),
        ("convnext_tiny", 32),
        ("regnet_y_400mf", 96),
        ("regnet_y_400mf", 32),
    ],
)
def test_torchvision_with_an_exported_backbone_computes_its_features(
    name: Any, image_size: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(backbone=name, exit_stages=(1,)), image_size=image_size)
    images_RCHW = torch.randn(4, 3, image_size, image_size)
    as_if_trained(encoder.backbone, images_RCHW)
    save_backbone(tmp_path / "backbone.safetensors", encoder)
    state = safetensors.torch.load_file(tmp_path / "backbone.safetensors")
    twin = twin_of(name, state, small_stem=image_size <= 64).double()
    # In float64, so that a larger difference can only be another network.
    images_RCHW = images_RCHW[:2].double()
    with torch.no_grad():
        features_RD, expected_RD = twin(images_RCHW), encoder.eval().double().features(images_RCHW)[-1]
    torch.testing.assert_close(features_RD, expected_RD, rtol=1e-9, atol=1e-9)
    assert expected_RD.std(dim=0).mean() > 1e-3 * expected_RD.abs().max()


def test_a_frozen_backbone_is_exported_for_batch_norm() -> None:
    config = ModelConfig(exit_stages=(), normalization="frozen")
    encoder = build_encoder(config, image_size=96)
    twin = torchvision.models.resnet18(weights=None)
    twin.fc = nn.Identity()
    twin.load_state_dict(torchvision_state_dict(encoder), strict=True)
    images_RCHW = torch.randn(2, 3, 96, 96)
    with torch.no_grad():
        expected_RD = twin.eval()(images_RCHW)
        torch.testing.assert_close(encoder.features(images_RCHW)[-1], expected_RD, rtol=1e-4, atol=1e-4)


def test_an_exported_state_dict_is_a_copy_in_float32(encoder: SelfConEncoder) -> None:
    before = encoder.get_parameter("backbone.conv1.weight").clone()
    torchvision_state_dict(encoder)["conv1.weight"].zero_()
    assert torch.equal(encoder.get_parameter("backbone.conv1.weight"), before)
    dtypes = {value.dtype for value in torchvision_state_dict(encoder.double()).values()}
    assert dtypes == {torch.float32, torch.int64}


def test_encoder_trained_with_cross_entropy_is_saved_and_loaded(
    tmp_path: Path, dataset: ImageDataset
) -> None:
    config = TrainConfig.from_flat({"model.width": 4, "loss.objective": "cross_entropy"})
    num_classes = len(dataset.class_names)
    encoder = build_encoder(config.model, image_size=dataset.image_size, num_classes=num_classes).eval()
    save_encoder(tmp_path, encoder=encoder, config=config, dataset=dataset, metrics={})
    loaded, images = load_encoder(tmp_path), images_of(dataset, 3)
    assert loaded.encoder.state_dict().keys() == encoder.state_dict().keys()
    with torch.no_grad():
        assert torch.equal(loaded(images), features_by_hand(encoder, images, dataset)[-1])
