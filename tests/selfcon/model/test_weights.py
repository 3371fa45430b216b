import collections
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn

from selfcon.config import ModelConfig
from selfcon.errors import ConfigError
from selfcon.model import SelfConEncoder, build_encoder
from selfcon.model.weights import load_weights, misfit, published_state
from tests.selfcon.torchvision_twins import random_network, twin_of

NOT_A_STATE_DICT = "model.weights: expected a file with a state dict (tensors by name), got "


def narrow(**changes: Any) -> SelfConEncoder:
    torch.manual_seed(0)
    return build_encoder(ModelConfig(**{"width": 4, "projection_dim": 6} | changes), image_size=16)


def error_message(encoder: SelfConEncoder, path: Path) -> str:
    with pytest.raises(ConfigError) as refused:
        load_weights(encoder, path)
    assert "\n" not in str(refused.value)
    return str(refused.value)


def saved(path: Path, state: Any) -> Path:
    torch.save(state, path)
    return path


@pytest.mark.parametrize(
    ("name", "image_size"),
    [
        ("resnet18", 96),
        ("vgg16_bn", 32),
        ("efficientnet_b0", 96),
        ("efficientnet_b0", 32),
        ("convnext_tiny", 96),
        ("regnet_y_400mf", 96),
    ],
)
def test_backbone_with_torchvision_weights_computes_torchvision_features(
    name: Any, image_size: int, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    network = random_network(name)
    path = saved(tmp_path / "weights.pth", network.state_dict())
    encoder = build_encoder(ModelConfig(backbone=name), image_size=image_size).eval()
    load_weights(encoder, path)
    without_classifier = {
        key: value
        for key, value in network.state_dict().items()
        if not key.startswith(encoder.state_dict_names.classifier)
    }
    twin = twin_of(name, without_classifier, small_stem=image_size <= 64).double()
    # In float64, so that a larger difference can only be another network.
    images_RCHW = torch.randn(2, 3, image_size, image_size, dtype=torch.float64)
    with torch.no_grad():
        features_RD, expected_RD = encoder.double().features(images_RCHW)[-1], twin(images_RCHW)
    torch.testing.assert_close(features_RD, expected_RD, rtol=1e-9, atol=1e-9)
    assert expected_RD.std(dim=0).mean() > 1e-3 * expected_RD.abs().max()


@pytest.mark.parametrize("write", [torch.save, safetensors.torch.save_file], ids=["pth", "safetensors"])
def test_only_the_backbone_is_loaded(write: Callable[..., None], tmp_path: Path) -> None:
    path = tmp_path / {torch.save: "w.pth"}.get(write, "w.safetensors")
    expected = {key: torch.rand_like(value.float()) for key, value in published_state(narrow()).items()}
    write({**expected, "fc.weight": torch.zeros(2), "fc.bias": torch.zeros(2)}, path)
    encoder, fresh = narrow(exit_depth="same"), narrow(exit_depth="same")
    load_weights(encoder, path)
    for key, value in encoder.backbone.state_dict().items():
        assert torch.equal(value, expected[key]) != key.endswith("num_batches_tracked")
    for part in ("exits", "projection_heads"):
        unchanged = fresh.get_submodule(part).state_dict()
        found = encoder.get_submodule(part).state_dict()
        assert all(torch.equal(value, unchanged[key]) for key, value in found.items())


@pytest.mark.parametrize("normalization", ["batch", "frozen"])
def test_num_batches_tracked_is_optional(normalization: str, tmp_path: Path) -> None:
    state = {key: torch.rand_like(value.float()) for key, value in published_state(narrow()).items()}
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    encoders = [narrow(normalization=normalization), narrow(normalization=normalization)]
    load_weights(encoders[0], saved(tmp_path / "with.pth", state))
    load_weights(encoders[1], saved(tmp_path / "without.pth", without))
    for key in without:
        assert torch.equal(encoders[0].backbone.state_dict()[key], state[key])
        assert torch.equal(encoders[1].backbone.state_dict()[key], state[key])


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"conv1.weight": None}, "missing: conv1.weight"),
        ({"head.weight": torch.zeros(1)}, "unexpected: head.weight"),
        ({"bn1.bias": torch.zeros(5)}, "of another shape: bn1.bias [5] for [4]"),
        (
            {"bn1.weight": None, "bn1.bias": torch.zeros(3), "x": torch.zeros(1)},
            "missing: bn1.weight; unexpected: x; of another shape: bn1.bias [3] for [4]",
        ),
        (
            {f"head.{i}": torch.zeros(1) for i in range(5)},
            "unexpected: head.0, head.1, head.2 and 2 more",
        ),
    ],
)
def test_mismatched_keys_are_named(change: dict[str, Any], complaint: str, tmp_path: Path) -> None:
    encoder = narrow()
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    state = {key: value for key, value in (published_state(encoder) | change).items() if value is not None}
    path = saved(tmp_path / "w.pth", state)
    origin = "torchvision's resnet18, for width 64 and images above 64 pixels"
    assert (
        error_message(encoder, path)
        == f"model.weights: expected the weights of {origin}, got {path}: {complaint}"
    )
    assert all(torch.equal(value, before[key]) for key, value in encoder.state_dict().items())


@pytest.mark.parametrize(
    ("changes", "image_size", "complaint"),
    [
        ({"width": 64}, 64, "of another shape: conv1.weight [64, 3, 7, 7] for [64, 3, 3, 3]"),
        ({"width": 32}, 65, "of another shape: conv1.weight [64, 3, 7, 7] for [32, 3, 7, 7], bn1.weight "),
        (
            {"width": 64, "normalization": "group"},
            65,
            "unexpected: bn1.running_mean, bn1.running_var, layer1",
        ),
        ({"width": 64, "backbone": "vgg13_bn"}, 65, "missing: features.0.weight, features.0.bias, features"),
    ],
)
def test_torchvision_weights_fit_only_one_width_and_stem(
    changes: dict[str, Any], image_size: int, complaint: str, tmp_path: Path
) -> None:
    path = saved(tmp_path / "w.pth", random_network("resnet18").state_dict())
    assert complaint in error_message(build_encoder(ModelConfig(**changes), image_size=image_size), path)


def test_wide_resnet_uses_the_names_of_this_package(tmp_path: Path) -> None:
    changes: dict[str, Any] = {"backbone": "wrn_16_8", "width": 8}
    state = {
        key: torch.rand_like(value.float()) for key, value in narrow(**changes).backbone.state_dict().items()
    }
    encoder = narrow(**changes)
    load_weights(encoder, saved(tmp_path / "w.pth", state))
    assert torch.equal(encoder.get_parameter("backbone.layer2.0.conv1.bias"), state["layer2.0.conv1.bias"])
    message = error_message(encoder, saved(tmp_path / "w.pth", {"fc.weight": torch.zeros(1)}))
    assert message.startswith("model.weights: expected the weights of wrn_16_8 of this width, with the")


class RunsCode:
    def __reduce__(self) -> tuple[Any, ...]:
        return print, ("run",)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (torch.zeros(2), "a Tensor"),
        ([torch.zeros(2)], "a list"),
        ({"state_dict": {"conv1.weight": torch.zeros(2)}}, "a dict as 'state_dict'"),
        (collections.OrderedDict(epoch=3), "a int as 'epoch'"),
        (RunsCode(), "damaged, or not only tensors (UnpicklingError)"),
        (nn.Linear(1, 1), "damaged, or not only tensors (UnpicklingError)"),
    ],
    ids=["tensor", "list", "nested", "numbers", "code", "module"],
)
def test_files_without_a_state_dict_are_rejected(
    content: Any, complaint: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = saved(tmp_path / "w.pth", content)
    assert error_message(narrow(), path) == f"{NOT_A_STATE_DICT}{path}: {complaint}"
    assert "run" not in capfd.readouterr().out


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
@pytest.mark.parametrize(
    "content",
    [b"", b"not weights", b"\x80\x02.", pickle.dumps({"a": 1}), b"PK\x03\x04" + bytes(100), b"\xff" * 64],
    ids=["empty", "text", "stub", "pickle", "zip", "noise"],
)
def test_damaged_file_is_rejected_with_a_one_line_error(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    assert error_message(narrow(), path).startswith(f"{NOT_A_STATE_DICT}{path}: ")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_truncated_file_is_rejected(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    state = narrow().backbone.state_dict()
    {"w.pth": torch.save}.get(name, safetensors.torch.save_file)(state, path)
    path.write_bytes(path.read_bytes()[:-1000])
    assert error_message(narrow(), path).startswith(f"{NOT_A_STATE_DICT}{path}: ")


@pytest.mark.parametrize("name", ["w.pth", "w.safetensors"])
def test_missing_file_and_folder_are_rejected(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    prefix = f"model.weights: expected a file that can be read, got {path}: "
    assert error_message(narrow(), path) == f"{prefix}No such file or directory"
    path.mkdir()
    assert error_message(narrow(), path) == f"{prefix}Is a directory"


def test_state_dict_fits_only_its_network() -> None:
    network, other = nn.Linear(2, 3), nn.Linear(2, 3, bias=False)
    state: dict[str, Tensor] = network.state_dict()
    assert misfit(network.state_dict(), state) is None
    assert misfit(other.state_dict(), state) == "unexpected: bias"
    assert misfit(nn.Linear(3, 3).state_dict(), state) == "of another shape: weight [3, 2] for [3, 3]"
