import contextlib
import json
import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from selfcon.checkpoints.folder import (
    TrainingState,
    checkpoint_name,
    is_valid,
    load_checkpoint,
    load_network,
    newest_valid,
    order_of_checkpoint,
    save_checkpoint,
)
from selfcon.checkpoints.state import checkpoint_payloads, state_of
from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError

CONFIG = TrainConfig.from_flat({"model.width": 8, "model.exit_stages": [1, 2]})
FILES = ("model.safetensors", "optimizer.safetensors", "state.json")
# Values that an inexact round trip changes: a NaN payload, a negative zero, a subnormal, an odd fraction.
FLOAT32_BITS = torch.tensor([0x7FC00123, -0x80000000, 0x00000001, 0x3DCCCCCD], dtype=torch.int32)


def a_state(epoch: int = 2) -> TrainingState:
    generator = torch.Generator().manual_seed(epoch)
    return TrainingState(
        model={
            "conv.weight": torch.randn(4, 3, 3, 3, generator=generator).to(memory_format=torch.channels_last),
            "odd": FLOAT32_BITS.view(torch.float32),
            "double": torch.randn(3, 5, dtype=torch.float64, generator=generator).t(),
            "norm.num_batches_tracked": torch.tensor(2**53 + 1),
            "nothing": torch.empty(0, 3),
        },
        optimizer={"conv.weight": torch.randn(4, 3, 3, 3, generator=generator)},
        epoch=epoch,
        step=epoch * 17,
        history=[{"val/top1": 0.1}, {"train/loss": 1 / 3, "val/top1": 0.1 + 0.2}],
        losses=[0.1 + 0.2, 1e-310],
        scaler={"scale": 2.0**31, "growth_factor": 2.0, "_growth_tracker": 1999},
        cost={"seconds": 1e-300, "train_macs": 3e19},
        confusions={"2": {"totals": [3, 4], "correct": [3, 3], "pairs": [[1, 0, 1]]}},
    )


def bits(tensor: Tensor) -> bytes:
    return tensor.contiguous().numpy().tobytes()


def assert_same(left: TrainingState, right: TrainingState) -> None:
    for ours, theirs in ((left.model, right.model), (left.optimizer, right.optimizer)):
        assert {name: (t.dtype, t.shape, bits(t)) for name, t in ours.items()} == {
            name: (t.dtype, t.shape, bits(t)) for name, t in theirs.items()
        }
    one, other = (replace(state, model={}, optimizer={}) for state in (left, right))
    assert one == other


def flip(path: Path, *, position: float, bit: int) -> None:
    content = bytearray(path.read_bytes())
    content[int(position * len(content))] ^= 1 << bit
    path.write_bytes(content)


def test_checkpoint_round_trip_is_bit_identical(tmp_path: Path) -> None:
    directory = tmp_path / "trials" / "0007" / "checkpoints" / "2-a0"
    save_checkpoint(directory, a_state(), config=CONFIG)
    assert_same(load_checkpoint(directory, config=CONFIG), a_state())
    assert_same(load_checkpoint(directory, config=None), a_state())


def test_state_before_the_first_step_has_no_momentum(tmp_path: Path) -> None:
    state = TrainingState(model={"w": torch.ones(1)}, optimizer={}, epoch=0, step=0, history=[{}], cost={})
    save_checkpoint(tmp_path / "0-a0", state, config=CONFIG)
    assert_same(load_checkpoint(tmp_path / "0-a0", config=CONFIG), state)


def test_manifest_has_standard_sha256_digests(tmp_path: Path) -> None:
    save_checkpoint(tmp_path, a_state(), config=CONFIG)
    command = ["sha256sum", *FILES]
    lines = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    digests = json.loads((tmp_path / "manifest.json").read_text())["sha256"]
    assert digests == {line.split()[1]: line.split()[0] for line in lines}
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted((*FILES, "manifest.json"))


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("saved") / "2-a0"
    save_checkpoint(directory, a_state(), config=CONFIG)
    return directory


def copy_of(saved: Path, tmp_path: Path) -> Path:
    directory = tmp_path / "copy"
    directory.mkdir(exist_ok=True)
    for path in saved.iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(name=st.sampled_from(FILES), position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_in_a_file_is_detected(
    saved: Path, tmp_path: Path, name: str, position: float, bit: int
) -> None:
    directory = copy_of(saved, tmp_path)
    flip(directory / name, position=position, bit=bit)
    assert not is_valid(directory)
    with pytest.raises(CheckpointError, match=f"{name}: damaged"):
        load_checkpoint(directory, config=CONFIG)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60)
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_one_flipped_bit_in_the_manifest_is_detected_or_harmless(
    saved: Path, tmp_path: Path, position: float, bit: int
) -> None:
    directory = copy_of(saved, tmp_path)
    flip(directory / "manifest.json", position=position, bit=bit)
    with contextlib.suppress(CheckpointError):
        assert_same(load_checkpoint(directory, config=CONFIG), a_state())


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
def test_missing_file_is_named(saved: Path, tmp_path: Path, name: str) -> None:
    directory = copy_of(saved, tmp_path)
    (directory / name).unlink()
    assert not is_valid(directory)
    with pytest.raises(CheckpointError, match=f"{name}: missing"):
        load_checkpoint(directory, config=CONFIG)


@pytest.mark.parametrize("name", [*FILES, "manifest.json"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.99])
def test_truncated_file_is_named(saved: Path, tmp_path: Path, name: str, share: float) -> None:
    directory = copy_of(saved, tmp_path)
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[: int(len(content) * share)])
    assert not is_valid(directory)
    with pytest.raises(CheckpointError, match=f"{name}: damaged"):
        load_checkpoint(directory, config=CONFIG)


def test_nonexistent_checkpoint_is_reported_as_missing(tmp_path: Path) -> None:
    assert not is_valid(tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match=r"nowhere/manifest\.json: missing"):
        load_checkpoint(tmp_path / "nowhere", config=None)


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [
        ('{"version": 1, "sha256": {}}', "expected format version 2, got 1"),
        ('{"version": 2, "sha256": {"model.safetensors": "00"}}', "expected a digest of each of"),
        ('{"version": NaN}', "damaged, not valid JSON"),
        ("[1]", "expected a JSON object"),
    ],
)
def test_invalid_manifest_is_rejected(saved: Path, tmp_path: Path, manifest: str, reason: str) -> None:
    directory = copy_of(saved, tmp_path)
    (directory / "manifest.json").write_text(manifest)
    with pytest.raises(CheckpointError, match=rf"manifest\.json: .*{reason}"):
        load_checkpoint(directory, config=CONFIG)


def test_checkpoint_of_another_configuration_is_rejected_with_the_difference(saved: Path) -> None:
    other = TrainConfig.from_flat({"model.width": 8, "model.exit_stages": [1, 3]})
    reason = r"state\.json: of another configuration: model\.exit_stages is \[1, 2\], expected \[1, 3\]"
    with pytest.raises(CheckpointError, match=reason):
        load_checkpoint(saved, config=other)


def test_files_that_match_the_manifest_but_have_no_state_are_rejected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selfcon.checkpoints.state._state_bytes", lambda *_: b"{}")
    save_checkpoint(tmp_path, a_state(), config=CONFIG)
    with pytest.raises(CheckpointError, match="not a training state of this version: 'epoch'"):
        load_checkpoint(tmp_path, config=None)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_metrics_that_are_not_finite_are_rejected(tmp_path: Path, value: float) -> None:
    state = TrainingState(model={}, optimizer={}, epoch=0, step=0, history=[{"val/top1": value}], cost={})
    with pytest.raises(CheckpointError, match=r"state\.json: expected finite numbers"):
        save_checkpoint(tmp_path / "new", state, config=CONFIG)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("num_syncs", range(5))
def test_crash_while_saving_leaves_no_valid_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_syncs: int
) -> None:
    directory = tmp_path / "3-a0"
    save_checkpoint(directory, a_state(epoch=2), config=CONFIG)
    done: list[int] = []

    def sync_until_the_crash(descriptor: int) -> None:
        if len(done) == num_syncs:
            raise OSError("power lost")
        done.append(descriptor)

    monkeypatch.setattr(os, "fsync", sync_until_the_crash)
    with pytest.raises(OSError, match="power lost"):
        save_checkpoint(directory, a_state(epoch=3), config=CONFIG)
    assert not is_valid(directory)
    assert newest_valid(tmp_path) is None


def test_all_files_are_synced_before_the_manifest_is_renamed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []

    def record(descriptor: int) -> None:
        name = Path(f"/proc/self/fd/{descriptor}").readlink().name
        events.append(f"{name} {(tmp_path / '1-a0' / 'manifest.json').exists()}")

    monkeypatch.setattr(os, "fsync", record)
    save_checkpoint(tmp_path / "1-a0", a_state(), config=CONFIG)
    files = [f"{name} False" for name in (*FILES, "manifest.json.tmp")]
    assert events == ["1-a0 False", *files, "1-a0 True", f"{tmp_path.name} True"]


def test_disk_error_is_not_reported_as_a_missing_checkpoint(
    saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: Path) -> bytes:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(Path, "read_bytes", fail)
    with pytest.raises(OSError, match="Input/output error"):
        is_valid(saved)


def test_newest_valid_skips_damaged_checkpoints_and_other_folders(tmp_path: Path) -> None:
    for name in ("0-a0", "9-a0", "10-a0", "10-a2", "11-a2", "12-a10"):
        save_checkpoint(tmp_path / name, a_state(), config=CONFIG)
    (tmp_path / "11-a2" / "manifest.json").unlink()
    flip(tmp_path / "12-a10" / "model.safetensors", position=0.9, bit=0)
    (tmp_path / "13-a1").write_text("a file, not a folder")
    (tmp_path / "latest").symlink_to(tmp_path / "9-a0")
    invalid: list[str] = []
    found = newest_valid(tmp_path, on_invalid=lambda error: invalid.append(str(error)))
    assert found == newest_valid(tmp_path) == tmp_path / "10-a2"
    assert invalid == [
        f"{tmp_path}/13-a1/manifest.json: missing, so the checkpoint is incomplete",
        f"{tmp_path}/12-a10/model.safetensors: damaged, its SHA-256 differs from the manifest",
        f"{tmp_path}/11-a2/manifest.json: missing, so the checkpoint is incomplete",
    ]


def test_checkpoints_are_ordered_by_progress_then_attempt(tmp_path: Path) -> None:
    moments = [(9999, 0, 0), (9999, 3, 10), (10000, 0, 0), (10000, 20, 0), (10000, 1000000, 0)]
    names = [checkpoint_name(epoch=epoch, step=step, attempt=attempt) for epoch, step, attempt in moments]
    assert names[:2] == ["9999-a0", "9999-s000003-a10"]
    assert [order_of_checkpoint(name) for name in names] == moments
    for name in reversed(names):
        save_checkpoint(tmp_path / name, a_state(), config=CONFIG)
        assert newest_valid(tmp_path) == tmp_path / names[-1]
    assert order_of_checkpoint("0001-s-a0") is None


def test_older_checkpoint_is_used_if_the_newest_has_an_older_format(tmp_path: Path) -> None:
    for name in ("0001-a0", "0002-a0"):
        save_checkpoint(tmp_path / name, a_state(), config=CONFIG)
    manifest = tmp_path / "0002-a0" / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 2', '"version": 1'))
    invalid: list[str] = []
    assert newest_valid(tmp_path, on_invalid=lambda error: invalid.append(str(error))) == tmp_path / "0001-a0"
    assert invalid == [f"{manifest}: expected format version 2, got 1"]


def test_payloads_are_bit_identical_and_equal_the_files_of_a_folder(
    tmp_path: Path,
) -> None:
    payloads = checkpoint_payloads(a_state(), config=CONFIG)
    assert list(payloads) == [*FILES, "manifest.json"]
    assert_same(state_of(payloads, config=CONFIG), a_state())
    save_checkpoint(tmp_path, a_state(), config=CONFIG)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == payloads


def test_incomplete_payloads_are_rejected_with_source_and_file_name() -> None:
    payloads = checkpoint_payloads(a_state(), config=CONFIG)
    del payloads["optimizer.safetensors"]
    with pytest.raises(CheckpointError, match=r"^s3://b/x/optimizer\.safetensors: missing"):
        state_of(payloads, config=CONFIG, source="s3://b/x")
    with pytest.raises(CheckpointError, match=r"^s3://b/x/manifest\.json: missing"):
        state_of({}, config=None, source="s3://b/x")


def test_newest_valid_is_none_in_an_empty_or_missing_folder(tmp_path: Path) -> None:
    assert newest_valid(tmp_path) is None
    assert newest_valid(tmp_path / "missing") is None


def test_load_network_loads_every_value() -> None:
    network, other = nn.Linear(2, 3), nn.Linear(2, 3)
    load_network(network, other.state_dict(), source="here")
    assert torch.equal(network.weight, other.weight)
    assert torch.equal(network.bias, other.bias)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.zeros(3, 2)}, "missing: bias"),
        ({"weight": torch.zeros(3, 2), "bias": torch.zeros(3), "x": torch.zeros(1)}, "unexpected: x"),
        ({"weight": torch.zeros(2, 3), "bias": torch.zeros(3)}, "of another shape: weight [2, 3] for [3, 2]"),
    ],
)
def test_state_of_another_network_is_rejected_and_changes_nothing(
    state: dict[str, Tensor], message: str
) -> None:
    network = nn.Linear(2, 3)
    before = network.weight.clone()
    with pytest.raises(CheckpointError) as refused:
        load_network(network, state, source="here")
    assert str(refused.value) == f"here: of another network: {message}"
    assert torch.equal(network.weight, before)
