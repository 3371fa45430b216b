"""Every backbone family on every data set, in its real file format: train, evaluate, save, resume."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from selfcon.config import TrainConfig
from selfcon.train import EpochReport, fit
from tests.selfcon import tiny_datasets

BACKBONES = ["resnet50", "wrn_16_8", "vgg13_bn", "efficientnet_b0", "convnext_tiny", "regnet_y_400mf"]
# ImageNet's images differ in size and are decoded on demand; the other data sets are in memory.
PARTS = {"train": 16, "val": 2}
WRITERS: dict[str, Callable[[Path], Path]] = {
    "cifar10": lambda root: tiny_datasets.write_cifar10(root, images_per_batch=10, test_images=10),
    "cifar100": lambda root: tiny_datasets.write_cifar100(root, train_images=200, test_images=100),
    "tinyimagenet": lambda root: tiny_datasets.write_tinyimagenet(root, images_per_class=14),
    "imagenet": lambda root: tiny_datasets.write_image_folder(root, parts=PARTS, sizes=[(40, 50), (60, 36)]),
    "folder": lambda root: tiny_datasets.write_image_folder(root, sizes=[(32, 32)]),
}
SETTINGS: dict[str, Any] = {
    "data.image_size": 32,
    "data.augmentation": "standard",
    "model.width": 4,
    "model.exit_stages": [1, 2],
    "model.exit_depth": "small",
    "model.projection_dim": 8,
    "optim.epochs": 2,
    "evaluate.probe_epochs": 3,
}
BATCH_SIZES = {"cifar100": 64}


@pytest.fixture(scope="module", params=WRITERS)
def data(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    name: str = request.param
    root = WRITERS[name](tmp_path_factory.mktemp(name))
    return {
        "data.dataset": name,
        "data.root": str(root),
        "optim.global_batch_size": BATCH_SIZES.get(name, 16),
    }


@pytest.mark.parametrize("backbone", BACKBONES)
def test_backbone_trains_evaluates_saves_and_resumes_on_data_set(
    data: dict[str, Any], backbone: str, tmp_path: Path
) -> None:
    config = TrainConfig.from_flat(SETTINGS | data | {"model.backbone": backbone})
    reports: list[EpochReport] = []

    def report(epoch_report: EpochReport) -> None:
        reports.append(epoch_report)
        epoch_report.save(tmp_path / str(epoch_report.epoch))

    result = fit(config, report=report)
    assert [item.epoch for item in reports] == [0, 1, 2]
    names = {"val/top1", "val/exit1_top1", "val/exit2_top1", "val/ensemble_top1", "val/knn_top1"}
    assert all(0 <= item.metrics[name] <= 1 for item in reports for name in names)
    resumed = fit(config, report=lambda _: None, resume_from=tmp_path / "1")
    expected = result.encoder.state_dict()
    found = resumed.encoder.state_dict()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
