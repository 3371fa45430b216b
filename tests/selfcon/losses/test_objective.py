from typing import Any

import pytest
import torch
from torch.nn import functional

from selfcon.config import TrainConfig
from selfcon.losses.contrastive import selfcon_loss
from selfcon.losses.cross_entropy import exit_cross_entropy
from selfcon.losses.objective import num_classes_of_heads, training_loss

LABELS_B = torch.tensor([0, 1, 2, 0, 1, 1])
WEIGHTS: dict[str, Any] = {"loss.exit_weight": [0.5, 2.0], "loss.backbone_weight": 3.0, "data.num_views": 2}


def outputs() -> torch.Tensor:
    return torch.randn(12, 3, 8, generator=torch.Generator().manual_seed(0))


def config_with(changes: dict[str, Any]) -> TrainConfig:
    return TrainConfig.from_flat({"model.exit_stages": [1, 2]} | WEIGHTS | changes)


@pytest.mark.parametrize("use_labels", [True, False])
def test_contrastive_objective_passes_every_setting_to_the_loss(use_labels: bool) -> None:
    z_RED = functional.normalize(outputs(), dim=2)
    settings = {
        "loss.temperature": 0.2,
        "loss.base_temperature": 0.3,
        "loss.backbone_contrast": "backbone",
        "loss.use_labels": use_labels,
    }
    expected = selfcon_loss(
        z_RED,
        LABELS_B if use_labels else None,
        num_views=2,
        temperature=0.2,
        base_temperature=0.3,
        exit_weights=[0.5, 2.0],
        backbone_weight=3.0,
        backbone_contrast="backbone",
    )
    assert training_loss(z_RED, LABELS_B, config=config_with(settings)) == expected


def test_cross_entropy_objective_weights_every_exit() -> None:
    config = config_with({"loss.objective": "cross_entropy"})
    expected = exit_cross_entropy(
        outputs(), LABELS_B, num_views=2, exit_weights=[0.5, 2.0], backbone_weight=3.0
    )
    assert training_loss(outputs(), LABELS_B, config=config) == expected


@pytest.mark.parametrize(("objective", "expected"), [("contrastive", None), ("cross_entropy", 7)])
def test_heads_have_classes_only_for_cross_entropy(objective: str, expected: int | None) -> None:
    config = config_with({"loss.objective": objective})
    assert num_classes_of_heads(config, num_classes=7) == expected
