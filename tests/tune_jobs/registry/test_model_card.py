import re
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from scipy.stats import binomtest  # type: ignore[import-untyped]
from torch import nn

from selfcon.config import ModelConfig, TrainConfig
from selfcon.export import torchvision_state_dict
from selfcon.model import build_encoder
from tune_jobs.registry.model_card import CardFacts, intervals, model_card

FACTS = CardFacts(
    model="selfcon-digits",
    search="exits",
    trial=7,
    commit="abc123",
    dataset="digits",
    data_digest="0" * 64,
    image_size=16,
    class_names=[str(digit) for digit in range(10)],
    num_images={"train": 1150, "val": 287, "test": 360},
    feature_dim=64,
    config=TrainConfig.from_flat({"model.width": 8}).flat(),
    metrics={"val/top1": 267 / 287, "test/top1": 342 / 360, "test/knn_top1": 0.9},
)


def test_the_card_has_description_metrics_data_and_origin() -> None:
    card = model_card(FACTS)
    assert card.startswith(
        "# selfcon-digits: an encoder of digits\n\nA resnet18 of width 8, with an exit after"
    )
    low, high = intervals(FACTS.metrics, FACTS.num_images)["val/top1"]
    assert f"| `val/top1` | 0.9303 | {low:.4f} to {high:.4f} |" in card
    assert "1150 train, 287 val, 360 test images" in card
    assert f"`{'0' * 64}`" in card
    assert "Search `exits`, trial 7, commit `abc123`." in card
    assert "- `loss.temperature`: 0.1" in card
    headings = re.findall("^## (.*)$", card, re.MULTILINE)
    assert headings == [
        "Evaluation results", "Data", "Usage", "Intended use and limits", "Provenance",
    ]  # fmt: skip


def test_intervals_use_the_evaluated_split() -> None:
    found = intervals(FACTS.metrics, FACTS.num_images)
    assert found.keys() == FACTS.metrics.keys()
    for name, right, count in (("val/top1", 267, 287), ("test/top1", 342, 360)):
        expected = binomtest(right, count).proportion_ci(0.95, method="wilson")
        assert found[name] == pytest.approx((expected.low, expected.high), abs=1e-12)


@pytest.mark.parametrize("image_size", [32, 96])
def test_the_torchvision_network_of_the_card_gives_the_backbones_features(
    image_size: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    encoder = build_encoder(ModelConfig(exit_stages=(2,)), image_size=image_size).eval()
    facts = replace(FACTS, image_size=image_size, config=TrainConfig().flat())
    (code,) = [
        code for code in re.findall(r"```python\n(.*?)```", model_card(facts), re.DOTALL) if "vision" in code
    ]
    monkeypatch.setattr(safetensors.torch, "load_file", lambda _path: torchvision_state_dict(encoder))
    names: dict[str, nn.Module] = {}
    exec(code, names)  # as a reader of the card would run it
    images = torch.randn(3, 3, image_size, image_size)
    with torch.no_grad():
        expected = encoder.features(images)[-1]
        torch.testing.assert_close(names["network"](images), expected, rtol=1e-5, atol=1e-5)


def test_a_network_that_torchvision_lacks_has_no_torchvision_code() -> None:
    assert "torchvision.models" not in model_card(FACTS)
    assert "under torchvision's names" in model_card(FACTS)
