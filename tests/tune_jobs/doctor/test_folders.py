import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tune_jobs.doctor.finding import Level
from tune_jobs.doctor.folders import (
    NO_LOCKS,
    check_locks,
    disk_finding,
    output,
    probe_locks,
    temporary_finding,
)
from tune_jobs.options import LaunchOptions
from tune_jobs.space import load_space

GB = 1e9
SPACE = "name: s\nspace: {loss.temperature: {low: 0.1, high: 0.5}}\n"


@pytest.fixture
def full_disk(tmp_path: Path) -> Iterator[Path]:
    """A full in-memory file system."""
    path = tmp_path / "disk"
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(path)]
    if os.getuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("only root can mount a file system")
    (path / "filler").write_bytes(bytes(65536))
    yield path
    subprocess.run(["umount", "--lazy", str(path)], check=True)


def test_a_folder_that_does_not_exist_is_ok_and_is_not_created(tmp_path: Path) -> None:
    folder = tmp_path / "a/b"
    found = list(output(LaunchOptions(output=folder), None))
    assert [finding.subject for finding in found] == ["output", "disk"]
    assert found[0].message == f"{folder} can be written and locked"
    assert list(tmp_path.iterdir()) == []


def test_free_space_is_checked_on_the_disk_of_the_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "space.yaml").write_text(SPACE)
    space = load_space(tmp_path / "space.yaml")
    other = tmp_path / "other"
    other.mkdir()
    for storage, place in ((None, tmp_path), (str(other), other)):
        _, disk = output(LaunchOptions(output=tmp_path, checkpoint_storage=storage), space)
        assert f"free at {place}; the checkpoints of s need up to " in disk.message
    _, disk = output(LaunchOptions(output=tmp_path, checkpoint_storage="s3://bucket"), space)
    assert "need up to" not in disk.message


def test_a_full_disk_is_a_fault_and_the_probe_is_removed(full_disk: Path) -> None:
    written, disk = output(LaunchOptions(output=full_disk / "runs"), None)
    assert (written.level, disk.level) == (Level.FAULT, Level.NOTE)
    assert "No space left on device" in written.message
    assert [path.name for path in full_disk.iterdir()] == ["filler"]


def test_a_folder_that_cannot_be_written_is_a_fault(tmp_path: Path) -> None:
    assert "cannot write a file in /proc: " in str(probe_locks(Path("/proc")))
    (tmp_path / "file").touch()
    written, _ = output(LaunchOptions(output=tmp_path / "file"), None)
    assert written.level == Level.FAULT


def test_locks_of_different_files_do_not_exclude_each_other(tmp_path: Path) -> None:
    # As on a file system without working locks: the second lock succeeds.
    with (tmp_path / "a").open("w") as first, (tmp_path / "b").open("w") as second:
        assert check_locks(first, second) == NO_LOCKS
        assert check_locks(first, first) == NO_LOCKS


def test_a_file_system_without_locks_is_a_fault(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: object) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr("fcntl.flock", refuse)
    written, _ = output(LaunchOptions(output=tmp_path), None)
    assert written.level == Level.FAULT
    assert written.message == f"{tmp_path}: {NO_LOCKS} (Function not implemented)"


@pytest.mark.parametrize(
    ("free", "needed", "level"),
    [
        (0.5 * GB, None, Level.NOTE),
        (1 * GB, None, Level.OK),
        (0.5 * GB, 117_000_000, Level.OK),
        (0.1 * GB, 117_000_000, Level.FAULT),
    ],
)
def test_the_disk_must_have_space_for_the_checkpoints(free: float, needed: int | None, level: Level) -> None:
    assert disk_finding(Path("/x"), free, needed, "s").level == level


@pytest.mark.parametrize(
    ("folder", "free", "level"),
    [("/tmp", 50 * GB, Level.OK), ("/tmp", 4 * GB, Level.FAULT), (f"/tmp/{'a' * 60}", 50 * GB, Level.FAULT)],
)
def test_rays_folder_must_have_free_space_and_a_short_path(folder: str, free: float, level: Level) -> None:
    assert temporary_finding(Path(folder), free, 100 * GB).level == level
