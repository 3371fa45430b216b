from functools import cache
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.cluster.concurrency import Fit, trials_at_once, waiting_for, workers_for_next, workers_held
from tune_jobs.space.settings import TrialSettings


@pytest.mark.parametrize(
    ("nodes", "trial", "fit"),
    [
        ([{"CPU": 2.0}], {}, Fit(2, "2 CPUs / (1 worker x 1 CPU) = 2")),
        ([{"CPU": 8.0}], {"num_workers": 3}, Fit(2, "8 CPUs / (3 workers x 1 CPU) = 2")),
        ([{"CPU": 1.0}], {"num_workers": 2}, Fit(0, "1 CPU / (2 workers x 1 CPU) = 0")),
        ([{"CPU": 2.0}], {"cpus_per_worker": 0.5}, Fit(4, "2 CPUs / (1 worker x 0.5 CPUs) = 4")),
        ([{"CPU": 4.0}], {"cpus_per_worker": 3.0}, Fit(1, "4 CPUs / (1 worker x 3 CPUs) = 1")),
        (
            [{"CPU": 16.0, "GPU": 2.0}],
            {"num_workers": 2, "gpus_per_worker": 0.5},
            Fit(2, "16 CPUs / (2 workers x 1 CPU) = 8, 2 GPUs / (2 workers x 0.5 GPUs) = 2"),
        ),
        (
            [{"CPU": 16.0}],
            {"gpus_per_worker": 1.0},
            Fit(0, "16 CPUs / (1 worker x 1 CPU) = 16, 0 GPUs / (1 worker x 1 GPU) = 0"),
        ),
        ([{}], {}, Fit(0, "0 CPUs / (1 worker x 1 CPU) = 0")),
        ([], {}, Fit(0, "0 CPUs / (1 worker x 1 CPU) = 0")),
        ([{"CPU": 2.0}, {}, {"CPU": 2.0}], {}, Fit(4, "4 CPUs / (1 worker x 1 CPU) = 4, 3 nodes")),
        ([{"CPU": 3.0}] * 2, {"num_workers": 4}, Fit(1, "6 CPUs / (4 workers x 1 CPU) = 1, 2 nodes")),
        (
            [{"CPU": 2.0}] * 2,
            {"cpus_per_worker": 4.0},
            Fit(0, "4 CPUs / (1 worker x 4 CPUs) = 1, but 2 nodes hold 0 workers: 0"),
        ),
        (
            [{"CPU": 3.0}] * 3,
            {"num_workers": 2, "cpus_per_worker": 2.0},
            Fit(1, "9 CPUs / (2 workers x 2 CPUs) = 2, but 3 nodes hold 3 workers: 1"),
        ),
        (
            [{"CPU": 8.0}, {"CPU": 1.0, "GPU": 1.0}],
            {"cpus_per_worker": 2.0, "gpus_per_worker": 1.0},
            Fit(
                0,
                "9 CPUs / (1 worker x 2 CPUs) = 4, 1 GPU / (1 worker x 1 GPU) = 1, "
                "but 2 nodes hold 0 workers: 0",
            ),
        ),
        ([{"CPU": 4.0}], {"num_workers": (1, 4)}, Fit(1, "4 CPUs / (1 to 4 workers x 1 CPU) = 1")),
        ([{"CPU": 6.0}], {"num_workers": (1, 4)}, Fit(2, "6 CPUs / (1 to 4 workers x 1 CPU) = 2")),
        ([{"CPU": 6.0}], {"num_workers": (3, 4)}, Fit(1, "6 CPUs / (3 to 4 workers x 1 CPU) = 1")),
        ([{"CPU": 1.0}], {"num_workers": (2, 4)}, Fit(0, "1 CPU / (2 to 4 workers x 1 CPU) = 0")),
        (
            [{"CPU": 3.0}] * 3,
            {"num_workers": (2, 3), "cpus_per_worker": 2.0},
            Fit(1, "9 CPUs / (2 to 3 workers x 2 CPUs) = 1, 3 nodes"),
        ),
        (  # a fraction of a GPU comes from one device
            [{"CPU": 8.0, "GPU": 2.0}],
            {"gpus_per_worker": 0.4},
            Fit(
                4,
                "8 CPUs / (1 worker x 1 CPU) = 8, 2 GPUs / (1 worker x 0.4 GPUs) = 5, "
                "but 1 node holds 4 workers: 4",
            ),
        ),
    ],
)
def test_trials_that_fit_are_counted_with_the_calculation(
    nodes: list[dict[str, float]], trial: dict[str, Any], fit: Fit
) -> None:
    assert trials_at_once(nodes, TrialSettings(**trial)) == fit


@given(st.integers(1, 64), st.integers(1, 8), st.integers(1, 100))
def test_fractions_of_cpus_that_add_up_exactly_fit(cpus: int, num_workers: int, parts: int) -> None:
    # 0.1 is not exact in binary: with floats, ten workers of 0.1 CPUs would not fit into one CPU.
    trial = TrialSettings(num_workers=num_workers, cpus_per_worker=parts / 100)
    assert trials_at_once([{"CPU": float(cpus)}], trial).count == cpus * 100 // (num_workers * parts)


Free = tuple[int, tuple[int, ...]]  # free tenths of CPUs, and of each GPU


@cache
def most_workers(free_nodes: tuple[Free, ...], cpu: int, gpu: int) -> int:
    """Return the maximum number of workers, found by placing them in every possible way."""
    further = (
        most_workers(tuple(sorted((*free_nodes[:i], after, *free_nodes[i + 1 :]))), cpu, gpu)
        for i, node in enumerate(free_nodes)
        for after in free_after(node, cpu, gpu)
    )
    return max((1 + number for number in further), default=0)


def free_after(node: Free, cpu: int, gpu: int) -> set[Free]:
    """Return the possible free resources of a node with one more worker, on whole GPUs or a part of one."""
    free, devices = node
    whole = [device for device in devices if device == 10]
    if free < cpu or (gpu >= 10 and len(whole) < gpu // 10):
        return set()
    if gpu >= 10:
        return {(free - cpu, tuple(sorted(devices)[: len(devices) - gpu // 10]))}
    if gpu == 0:
        return {(free - cpu, devices)}
    return {
        (free - cpu, tuple(sorted((*devices[:i], device - gpu, *devices[i + 1 :]))))
        for i, device in enumerate(devices)
        if device >= gpu
    }


@given(
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 2)), max_size=3),
    st.integers(1, 3),
    st.sampled_from([3, 5, 10, 20]),
    st.sampled_from([0, 4, 5, 10, 20]),
)
def test_the_count_equals_the_best_placement(
    nodes: list[tuple[int, int]], num_workers: int, cpu: int, gpu: int
) -> None:
    trial = TrialSettings(num_workers=num_workers, cpus_per_worker=cpu / 10, gpus_per_worker=gpu / 10)
    free_nodes = tuple(sorted((cpus * 10, (10,) * gpus) for cpus, gpus in nodes))
    counted = trials_at_once([{"CPU": float(cpus), "GPU": float(gpus)} for cpus, gpus in nodes], trial)
    assert counted.count == most_workers(free_nodes, cpu, gpu) // num_workers


nodes_of_cpus = st.lists(st.integers(0, 6), max_size=4).map(
    lambda counts: [{"CPU": float(cpus)} for cpus in counts]
)


@given(nodes_of_cpus, st.integers(1, 4), st.integers(0, 3))
def test_trials_started_one_by_one_reach_the_counted_number(
    nodes: list[dict[str, float]], fewest: int, more: int
) -> None:
    trial = TrialSettings(num_workers=(fewest, fewest + more) if more else fewest)
    live: list[int] = []
    while num_workers := workers_for_next(nodes, trial, live):
        assert trial.min_workers <= num_workers <= trial.max_workers
        live.append(num_workers)
    assert len(live) == trials_at_once(nodes, trial).count
    assert sum(live) <= workers_held(nodes, trial)


@pytest.mark.parametrize(
    ("cpus", "num_workers", "live", "expected"),
    [
        (4, (1, 4), [], 4),
        (4, (1, 4), [1], 3),  # started when there was one node, and keeps its worker
        (4, (2, 4), [3], 0),
        (1, (1, 4), [], 1),  # a node was lost
        (2, (1, 4), [4], 0),  # the attempt on the lost node has not ended yet
        (4, 2, [2], 2),
        (3, 2, [2], 0),
    ],
)
def test_a_trial_gets_as_many_workers_as_fit_next_to_running_ones(
    cpus: int, num_workers: int | tuple[int, int], live: list[int], expected: int
) -> None:
    assert workers_for_next([{"CPU": 1.0}] * cpus, TrialSettings(num_workers=num_workers), live) == expected


@pytest.mark.parametrize(
    ("nodes", "trial", "line"),
    [
        (
            [{"CPU": 1.0}] * 3,
            {"num_workers": 4},
            "waiting for 1 more worker of 1 CPU: 3 of 4 fit on 3 nodes",
        ),
        ([{}], {"num_workers": 2}, "waiting for 2 more workers of 1 CPU: 0 of 2 fit on 1 node"),
        (
            [{"CPU": 1.0}],
            {"num_workers": (2, 8)},
            "waiting for 1 more worker of 1 CPU: 1 of at least 2 fit on 1 node",
        ),
        (
            [{"CPU": 8.0, "GPU": 1.0}],
            {"num_workers": 2, "cpus_per_worker": 2.0, "gpus_per_worker": 1.0},
            "waiting for 1 more worker of 2 CPUs and 1 GPU: 1 of 2 fit on 1 node",
        ),
    ],
)
def test_missing_workers_are_reported_in_one_line(
    nodes: list[dict[str, float]], trial: dict[str, Any], line: str
) -> None:
    assert waiting_for(nodes, TrialSettings(**trial)) == line
