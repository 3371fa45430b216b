from pathlib import Path

import pytest

from tune_jobs.doctor.finding import Level
from tune_jobs.doctor.machine import (
    fits_sockets,
    memory,
    memory_bytes,
    memory_finding,
    open_files_finding,
    ray_folder,
    shared_memory_finding,
)

GB = 1e9
MEMINFO = "MemTotal:       16000000 kB\nMemFree: 1 kB\nMemAvailable:    8000000 kB\n"


@pytest.mark.parametrize(
    ("limit", "used", "expected"),
    [
        ("", "", (16_384_000_000, 8_192_000_000)),
        ("max\n", "1000\n", (16_384_000_000, 8_192_000_000)),
        ("4000000000\n", "1000000000\n", (4_000_000_000, 3_000_000_000)),
        ("4000000000\n", "", (4_000_000_000, 4_000_000_000)),
        ("1000\n", "2000\n", (1000, 0)),
        ("99000000000\n", "0\n", (16_384_000_000, 8_192_000_000)),
    ],
)
def test_memory_is_that_of_the_system_or_the_limit_of_the_container(
    limit: str, used: str, expected: tuple[int, int]
) -> None:
    assert memory_bytes(MEMINFO, limit=limit, used=used) == expected


@pytest.mark.parametrize(("workers", "level"), [(0, Level.OK), (1, Level.OK), (2, Level.OK), (3, Level.NOTE)])
def test_memory_must_fit_the_workers(workers: int, level: Level) -> None:
    assert memory_finding(total=8 * GB, available=2.5 * GB, workers=workers).level == level


@pytest.mark.parametrize(
    ("free", "total", "level"),
    [
        (0.064 * GB, 8 * GB, Level.NOTE),  # default of a container
        (2.4 * GB, 8 * GB, Level.OK),
        (9 * GB, 256 * GB, Level.NOTE),
        (10 * GB, 256 * GB, Level.OK),  # Ray accepts this
        (20 * GB, 256 * GB, Level.OK),
    ],
)
def test_shared_memory_must_fit_rays_object_store(free: float, total: float, level: Level) -> None:
    assert shared_memory_finding(free, memory=total).level == level


def test_the_remedy_for_shared_memory_contains_the_size() -> None:
    finding = shared_memory_finding(0.064 * GB, memory=10 * GB)
    assert finding.message == "/dev/shm has 0.06 GB free, Ray needs 3.0 GB and will use the disk instead"
    assert "--shm-size=3.3g" in finding.remedy


@pytest.mark.parametrize(("limit", "level"), [(None, Level.OK), (1024, Level.NOTE), (4096, Level.OK)])
def test_a_low_limit_of_open_files_is_noted(limit: int | None, level: Level) -> None:
    assert open_files_finding(limit).level == level


@pytest.mark.parametrize(
    ("folder", "fits"), [("/tmp", True), ("/" + "a" * 38, True), ("/" + "a" * 39, False)]
)
def test_the_paths_of_rays_sockets_must_be_short(folder: str, fits: bool) -> None:
    assert fits_sockets(Path(folder)) == fits


def test_rays_folder_is_the_default_of_ray(monkeypatch: pytest.MonkeyPatch) -> None:
    from ray._common.utils import get_default_system_temp_dir

    for folder in ("/tmp", "/var/tmp"):
        monkeypatch.setenv("RAY_TMPDIR", folder)
        assert str(ray_folder()) == get_default_system_temp_dir() == folder


def test_this_machine_has_a_line_for_memory_and_one_for_shared_memory() -> None:
    assert [finding.subject for finding in memory(None)] == ["memory", "shared memory"]
