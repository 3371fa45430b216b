import os

import pytest
import torch

from selfcon.config import TrainConfig
from selfcon.determinism import deterministic_kernels
from selfcon.train import EpochReport, fit

HAS_GPU = torch.cuda.is_available()


def settings() -> tuple[bool, bool, bool]:
    return (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
        torch.utils.deterministic.fill_uninitialized_memory,  # type: ignore[attr-defined]
    )


@pytest.fixture
def as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Behave as on a machine with a GPU; these settings exist on CPUs too."""
    monkeypatch.setattr("selfcon.determinism._has_gpu", lambda: True)
    monkeypatch.delenv("CUBLAS_WORKSPACE_CONFIG", raising=False)


@pytest.mark.usefixtures("as_on_a_gpu")
@pytest.mark.parametrize("before", [(False, False), (True, True)])
def test_kernels_are_deterministic_only_inside_the_context(before: tuple[bool, bool]) -> None:
    enabled, warn_only = before
    torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
    try:
        with pytest.raises(KeyError), deterministic_kernels():
            raise KeyError(settings(), os.environ["CUBLAS_WORKSPACE_CONFIG"])
        with deterministic_kernels():
            assert settings() == (True, False, False)
        assert settings() == (*before, True)
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.skipif(HAS_GPU, reason="there is a GPU")
def test_settings_are_unchanged_without_a_gpu() -> None:
    before = settings()
    with deterministic_kernels():
        assert settings() == before


@pytest.mark.usefixtures("as_on_a_gpu")
def test_training_and_evaluation_use_deterministic_kernels() -> None:
    config = TrainConfig.from_flat(
        {"data.image_size": 8, "model.width": 4, "optim.epochs": 1, "evaluate.probe_epochs": 1}
    )
    found: list[bool] = []

    def report(_: EpochReport) -> None:
        found.append(torch.are_deterministic_algorithms_enabled())

    fit(config, report=report)
    assert found == [True, True]
    assert not torch.are_deterministic_algorithms_enabled()


@pytest.mark.skipif(not HAS_GPU, reason="needs a GPU")
def test_sum_by_index_is_bit_identical_in_every_run() -> None:
    generator = torch.Generator("cuda").manual_seed(0)
    rows_N1 = torch.randn(200_000, 1, device="cuda", generator=generator)
    place_N = torch.randint(7, (len(rows_N1),), device="cuda", generator=generator)
    with deterministic_kernels():
        sums = [torch.zeros(7, 1, device="cuda").index_add(0, place_N, rows_N1) for _ in range(5)]
    assert all(torch.equal(found, sums[0]) for found in sums)
