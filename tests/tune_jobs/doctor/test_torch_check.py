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
    return {finding.subject: finding.level for finding in findings(facts, wants_gpus=wants_gpus)}


@pytest.mark.parametrize("facts", [CPU, CUDA])
def test_a_working_installation_is_ok(facts: TorchFacts) -> None:
    assert set(levels(facts).values()) == {Level.OK}


def test_the_finding_on_a_device_shows_its_properties() -> None:
    found = {finding.subject: finding.message for finding in findings(CUDA, wants_gpus=True)}
    assert found["GPU 0"] == "H100, 79.0 of 80.0 GB free, capability 9.0, driver 580.1, computes"


def test_an_incompatible_torchvision_is_a_fault() -> None:
    error = "operator torchvision::nms does not exist"
    (fault,) = [
        f for f in findings(replace(CPU, torchvision_error=error), wants_gpus=False) if f.level == Level.FAULT
    ]
    assert (fault.subject, fault.message) == ("torchvision", f"not compatible with torch 2.14.1: {error}")
    assert "--force-reinstall torch torchvision" in fault.remedy


@pytest.mark.parametrize(
    ("facts", "wants_gpus", "level"),
    [
        (CPU, True, Level.FAULT),
        (replace(CPU, listed_gpus=1), False, Level.NOTE),  # there is a GPU, but torch cannot use it
        (replace(CPU, listed_gpus=1), True, Level.FAULT),
        (replace(CUDA, gpus=(), listed_gpus=0, no_gpu="no driver"), False, Level.NOTE),
        (replace(CUDA, gpus=(), listed_gpus=0, no_gpu="no driver"), True, Level.FAULT),
        (replace(CUDA, gpus=(), listed_gpus=1, no_gpu="driver too old"), False, Level.FAULT),
    ],
)
def test_unusable_devices_are_a_note_or_a_fault(facts: TorchFacts, wants_gpus: bool, level: Level) -> None:
    assert levels(facts, wants_gpus=wants_gpus)["GPUs"] == level


def test_a_device_that_cannot_compute_is_a_fault() -> None:
    broken = replace(CARD, error="no kernel image is available")
    assert levels(replace(CUDA, gpus=(CARD, broken))) == {
        "torch": Level.OK, "torchvision": Level.OK, "GPU 0": Level.OK, "GPU 1": Level.FAULT,
        "process groups": Level.OK,
    }  # fmt: skip


@pytest.mark.parametrize(
    "facts", [replace(CPU, gloo_error="unable to resolve hostname"), replace(CUDA, has_nccl=False)]
)
def test_a_failing_process_group_is_a_fault(facts: TorchFacts) -> None:
    assert levels(facts)["process groups"] == Level.FAULT


def test_this_torch_works() -> None:
    here = facts()
    assert (here.torchvision_error, here.gloo_error) == ("", "")
    assert here.threads >= 1
