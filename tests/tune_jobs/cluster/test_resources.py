from collections.abc import Callable
from pathlib import Path

import pytest

from tune_jobs.cluster import resources as cluster
from tune_jobs.cluster.resources import machine_resources, usable_cpus, visible_gpus


@pytest.mark.parametrize(
    ("available", "quota", "cpus"),
    [
        (8, "", 8),
        (8, "max 100000\n", 8),
        (8, "200000 100000\n", 2),
        (8, "250000 100000\n", 2),
        (8, "50000 100000\n", 1),
        (2, "400000 100000\n", 2),
        (2, "100000 0\n", 2),
        (2, "nonsense", 2),
    ],
)
def test_a_quota_limits_the_cpus(available: int, quota: str, cpus: int) -> None:
    assert usable_cpus(available=available, quota=quota) == cpus


@pytest.mark.parametrize(
    ("present", "visible", "gpus"),
    [
        (4, None, 4),
        (4, "", 0),
        (4, "0,2", 2),
        (4, "-1", 0),
        (4, "0,-1,2", 1),
        (1, "0,1,2", 1),
        (4, "GPU-8932f937, GPU-1b2c", 2),
        (0, "0", 0),
    ],
)
def test_cuda_visible_devices_limits_the_gpus(present: int, visible: str | None, gpus: int) -> None:
    assert visible_gpus(present, visible) == gpus


@pytest.fixture
def nvidia_smi(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return a function that installs a program called nvidia-smi, the only one there is."""

    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return install


@pytest.mark.usefixtures("nvidia_smi")
def test_without_nvidia_smi_there_are_no_gpus() -> None:
    resources = machine_resources()
    assert resources["GPU"] == 0
    assert resources["CPU"] >= 1


@pytest.mark.parametrize(
    ("script", "gpus"),
    [
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; echo 'GPU 1: NVIDIA H100 (UUID: GPU-2)'", 2),
        ("echo 'GPU 0: NVIDIA H100 (UUID: GPU-1)'; echo '  MIG 1g.10gb Device 0: (UUID: MIG-1)'", 1),
        ("echo 'NVIDIA-SMI has failed because it could not communicate with the driver.'; exit 9", 0),
        ("exec /bin/sleep 30", 0),
    ],
)
def test_gpus_are_those_that_nvidia_smi_lists(
    nvidia_smi: Callable[[str], None], monkeypatch: pytest.MonkeyPatch, script: str, gpus: int
) -> None:
    monkeypatch.setattr(cluster, "NVIDIA_SMI_TIMEOUT_S", 0.5)
    nvidia_smi(script)
    assert machine_resources()["GPU"] == gpus


@pytest.mark.usefixtures("nvidia_smi")
def test_the_quota_is_read_from_the_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    quota = tmp_path / "cpu.max"
    quota.write_text("100000 100000\n")
    monkeypatch.setattr(cluster, "CPU_QUOTA", quota)
    assert machine_resources()["CPU"] == 1.0
