import math
import subprocess
import sys
from typing import Any

import pytest
import torch
from torch.nn import functional

from selfcon.collapse import collapsed_loss, collapsed_loss_of, is_collapsed
from selfcon.config import TrainConfig
from selfcon.losses.contrastive import selfcon_loss

DEFAULTS: dict[str, Any] = {
    "num_images": 128,
    "num_views": 1,
    "num_exits": 2,
    "exit_weight": 1.0,
    "backbone_weight": 1.0,
    "backbone_contrast": "all",
    "temperature": 0.1,
    "base_temperature": 0.07,
}


def test_collapsed_loss_of_128_images_and_2_exits_is_7_92() -> None:
    assert collapsed_loss(**DEFAULTS) == pytest.approx(math.log(255) * 0.1 / 0.07, rel=1e-15)
    assert collapsed_loss(**DEFAULTS) == pytest.approx(7.92, abs=5e-3)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"num_exits": 1},
        {"num_exits": 3, "exit_weight": (0.2, 0.0), "backbone_weight": 3.0},
        {"num_exits": 3, "exit_weight": 0.35, "backbone_contrast": "backbone"},
        {"num_exits": 1, "backbone_contrast": "backbone", "num_views": 2},
        {"num_views": 2, "temperature": 0.5, "base_temperature": 1.0},
    ],
)
def test_collapsed_loss_equals_the_loss_of_identical_features(changes: dict[str, Any]) -> None:
    settings = DEFAULTS | {"num_images": 12} | changes
    num_rows = settings["num_images"] * settings["num_views"]
    direction_D = functional.normalize(torch.arange(1.0, 9, dtype=torch.float64), dim=0)
    loss = selfcon_loss(
        direction_D.expand(num_rows, settings["num_exits"], 8),
        torch.arange(settings["num_images"]) % 5,
        num_views=settings["num_views"],
        temperature=settings["temperature"],
        base_temperature=settings["base_temperature"],
        exit_weights=settings["exit_weight"],
        backbone_weight=settings["backbone_weight"],
        backbone_contrast=settings["backbone_contrast"],
    )
    assert collapsed_loss(**settings) == pytest.approx(loss.item(), rel=1e-12)


def test_collapsed_loss_of_a_training_configuration() -> None:
    config = TrainConfig.from_flat(
        {
            "data.num_views": 2,
            "model.exit_stages": [1, 3],
            "loss.temperature": 0.2,
            "loss.base_temperature": 0.1,
            "loss.exit_weight": [0.5, 2.0],
            "loss.backbone_weight": 3.0,
            "loss.backbone_contrast": "backbone",
            "optim.global_batch_size": 32,
        }
    )
    expected = (2.5 * math.log(64 * 3 - 1) + 3.0 * math.log(64 - 1)) / 5.5 * 2
    assert collapsed_loss_of(config) == pytest.approx(expected, rel=1e-15)


def test_cross_entropy_has_no_collapsed_loss_and_never_collapses() -> None:
    value = collapsed_loss_of(TrainConfig.from_flat({"loss.objective": "cross_entropy"}))
    assert math.isnan(value)
    losses = [math.log(10)] * 5
    assert not is_collapsed(losses, collapsed_loss=value, warmup_epochs=0, top1=0.1, untrained_top1=0.9)


def test_empty_contrast_set_adds_nothing() -> None:
    assert collapsed_loss(**DEFAULTS | {"num_images": 1, "num_exits": 1}) == 0


@pytest.mark.parametrize(
    ("losses", "top1", "collapsed"),
    [
        ([9.0, 9.0, 7.9, 7.99, 7.93], 0.8, True),
        ([9.0, 9.0, 7.92, 7.999, 7.841], 0.9, True),
        ([9.0, 9.0, 7.92, 8.001, 7.92], 0.8, False),
        ([9.0, 9.0, 7.92, 7.92, 7.839], 0.8, False),
        ([9.0, 9.0, 7.7, 7.92, 7.92], 0.8, False),
        ([9.0, 9.0, 7.92, 7.92, 7.92], 0.91, False),
        ([7.92, 7.92, 7.92, 7.92], 0.8, False),
        ([7.92, 7.92, 7.92, 7.92, 7.92], 0.8, True),
        ([9.0, 9.0, 7.92, 7.92, 7.92, 7.5], 0.8, False),
        ([9.0, 9.0, 7.92, math.nan, 7.92], 0.8, False),
        ([9.0, 9.0, 7.92, 7.92, 7.92], math.nan, False),
        ([], 0.8, False),
    ],
)
def test_run_has_collapsed_after_three_epochs_at_the_collapsed_loss_without_better_accuracy(
    losses: list[float], top1: float, collapsed: bool
) -> None:
    found = is_collapsed(losses, collapsed_loss=7.92, warmup_epochs=2, top1=top1, untrained_top1=0.9)
    assert found is collapsed


def test_collapse_does_not_import_torch_numpy_or_pydantic() -> None:
    code = "import selfcon.collapse, sys; print({'torch', 'pydantic', 'numpy'} & set(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "set()\n"
