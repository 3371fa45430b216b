import resource

import pytest
import torch

from selfcon.accounting import CostMeter


def a_meter() -> CostMeter:
    return CostMeter(device=torch.device("cpu"), encoder_parameters=11, forward_macs=1000)


def test_costs_accumulate() -> None:
    meter = a_meter()
    meter.add(seconds=1.5, num_views=64)
    meter.add(seconds=0.25, num_views=0)
    metrics = meter.metrics()
    assert metrics["cost/seconds"] == 1.75
    assert metrics["cost/train_macs"] == 3 * 1000 * 64
    assert metrics["cost/encoder_parameters"] == 11
    assert metrics["cost/accelerator_hours"] == 0


def test_resumed_meter_continues_from_the_restored_totals() -> None:
    first, second = a_meter(), a_meter()
    first.add(seconds=2.0, num_views=8)
    first.totals["peak_memory_mb"] = 1e6
    second.restore(first.totals)
    second.add(seconds=3.0, num_views=8)
    assert second.metrics()["cost/seconds"] == 5.0
    assert second.metrics()["cost/train_macs"] == 3 * 1000 * 16
    assert second.metrics()["cost/peak_memory_mb"] == 1e6
    assert first.metrics()["cost/seconds"] == 2.0


def test_peak_memory_is_that_of_the_process() -> None:
    meter = a_meter()
    meter.add(seconds=0.0, num_views=0)
    kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert meter.metrics()["cost/peak_memory_mb"] == pytest.approx(kilobytes * 1024 / 1e6, rel=0.01)


def test_time_is_monotonic() -> None:
    meter = a_meter()
    assert meter.now() <= meter.now()
