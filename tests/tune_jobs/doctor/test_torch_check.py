from dataclasses import replace

import pytest

from tune_jobs.doctor.finding import Level
from tune_jobs.doctor.torch_check import GPU, TorchFacts, facts, findings

CPU = TorchFacts(
    version="2.14.1", cuda=None, threads=2, torchvision="0.29.1", torchvision_error="", gpus=(), no_gpu="",
    driver="", listed_gpus=0, gloo_error="", has_nccl=False,
)  # fmt: skip
CARD = GPU("H100", 80_000_000_000, 79_000_000_000, "9.0")
CUDA = replace(
    CPU, version="2.14.1+cu130", cuda="13.0", gpus=(CARD,), driver="580.1", listed_gpus=1, has_nccl=True
)


def levels(facts: TorchFacts, *, wants_gpus: bool = False) -> dict[str, Level]:
    return {finding.what: finding.level for finding in findings(facts, wants_gpus=wants_gpus)}


@pytest.mark.parametrize("known", [CPU, CUDA])
def test_what_is_whole_is_fine(known: TorchFacts) -> None:
    assert set(levels(known).values()) == {Level.OK}


def test_a_device_is_told_with_all_that_matters() -> None:
    found = {finding.what: finding.found for finding in findings(CUDA, wants_gpus=True)}
    assert found["GPU 0"] == "H100, 79.0 of 80.0 GB free, capability 9.0, driver 580.1, computes"


def test_a_torchvision_of_another_build_is_a_fault() -> None:
    error = "operator torchvision::nms does not exist"
    (fault,) = [
        f for f in findings(replace(CPU, torchvision_error=error), wants_gpus=False) if f.level == Level.FAULT
    ]
    assert (fault.what, fault.found) == ("torchvision", f"does not go with torch 2.14.1: {error}")
    assert "--force-reinstall torch torchvision" in fault.remedy


@pytest.mark.parametrize(
    ("known", "wants_gpus", "level"),
    [
        (CPU, True, Level.FAULT),
        (replace(CPU, listed_gpus=1), False, Level.NOTE),  # there are some, and torch cannot use them
        (replace(CPU, listed_gpus=1), True, Level.FAULT),
        (replace(CUDA, gpus=(), listed_gpus=0, no_gpu="no driver"), False, Level.NOTE),
        (replace(CUDA, gpus=(), listed_gpus=0, no_gpu="no driver"), True, Level.FAULT),
        (replace(CUDA, gpus=(), listed_gpus=1, no_gpu="driver too old"), False, Level.FAULT),
    ],
)
def test_devices_that_cannot_be_used_are_told(known: TorchFacts, wants_gpus: bool, level: Level) -> None:
    assert levels(known, wants_gpus=wants_gpus)["GPUs"] == level


def test_a_device_that_cannot_compute_is_a_fault() -> None:
    broken = replace(CARD, error="no kernel image is available")
    assert levels(replace(CUDA, gpus=(CARD, broken))) == {
        "torch": Level.OK, "torchvision": Level.OK, "GPU 0": Level.OK, "GPU 1": Level.FAULT,
        "process groups": Level.OK,
    }  # fmt: skip


@pytest.mark.parametrize(
    "known", [replace(CPU, gloo_error="unable to resolve hostname"), replace(CUDA, has_nccl=False)]
)
def test_ranks_that_cannot_talk_are_a_fault(known: TorchFacts) -> None:
    assert levels(known)["process groups"] == Level.FAULT


def test_this_torch_is_whole() -> None:
    here = facts()
    assert (here.torchvision_error, here.gloo_error) == ("", "")
    assert here.threads >= 1
