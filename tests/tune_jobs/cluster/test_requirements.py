import re
from pathlib import Path

import pytest

from tune_jobs.cluster.requirements import (
    check_address,
    check_machine,
    check_node_types,
    missing_paths,
    needed_paths,
    refuse_missing,
)
from tune_jobs.errors import BadInputError
from tune_jobs.space import SearchSpace, load_space


def space(folder: Path, *overrides: str) -> SearchSpace:
    path = folder / "space.yaml"
    path.write_text("space: {seed: {low: 0, high: 9}}\ntrial: {num_workers: 2, cpus_per_worker: 2}\n")
    return load_space(path, overrides=overrides)


def check_paths(searched: SearchSpace) -> None:
    refuse_missing(searched, missing_paths(needed_paths(searched)))


@pytest.mark.parametrize(
    ("resources", "place", "arithmetic"),
    [
        ({"CPU": 3.0, "GPU": 0.0}, ":2:22: trial.num_workers", "3 CPUs / (2 workers x 2 CPUs) = 0"),
        ({"CPU": 1.0, "GPU": 0.0}, ":2:42: trial.cpus_per_worker", "1 CPU / (2 workers x 2 CPUs) = 0"),
    ],
)
def test_a_trial_that_does_not_fit_is_refused_with_the_calculation(
    tmp_path: Path, resources: dict[str, float], place: str, arithmetic: str
) -> None:
    searched = space(tmp_path)
    with pytest.raises(BadInputError) as refused:
        check_machine(searched, resources)
    expected = "expected workers that fit this machine (or the --address of a cluster)"
    assert str(refused.value) == f"{tmp_path}/space.yaml{place}: {expected}, got {arithmetic} trials at once"


def test_a_missing_gpu_is_reported_for_gpus_per_worker(tmp_path: Path) -> None:
    searched = space(tmp_path, "trial={gpus_per_worker: 1}")
    with pytest.raises(BadInputError, match=r"^--set trial=\{gpus_per_worker: 1\}: trial\.gpus_per_worker: "):
        check_machine(searched, {"CPU": 3.0, "GPU": 0.0})


def test_resources_for_one_trial_are_enough(tmp_path: Path) -> None:
    check_machine(space(tmp_path), {"CPU": 4.0, "GPU": 0.0})


@pytest.mark.parametrize(
    ("nodes", "overrides", "complaint"),
    [
        (
            [{"CPU": 1.0}, {}, {"CPU": 1.0}],
            (),
            ":2:42: trial.cpus_per_worker: expected workers that each fit one node of the cluster, "
            "got 2 CPUs each, for nodes of 1 CPU, 0 CPUs",
        ),
        (
            [{"CPU": 64.0}, {"CPU": 1.0, "GPU": 8.0}],
            ("trial={cpus_per_worker: 2, gpus_per_worker: 1}",),
            "trial.gpus_per_worker: expected workers that each fit one node of the cluster, "
            "got 2 CPUs and 1 GPU each, for nodes of 64 CPUs, 1 CPU and 8 GPUs",
        ),
    ],
)
def test_workers_that_fit_no_node_are_refused(
    tmp_path: Path, nodes: list[dict[str, float]], overrides: tuple[str, ...], complaint: str
) -> None:
    searched = space(tmp_path, *overrides)
    with pytest.raises(BadInputError) as refused:
        check_node_types(searched, nodes)
    assert str(refused.value).endswith(complaint)


def test_more_workers_than_fit_now_are_accepted(tmp_path: Path) -> None:
    check_node_types(space(tmp_path), [{}, {"CPU": 2.0}])


@pytest.mark.parametrize("address", [None, "auto", "10.0.0.7:6379", "head.example.org:6379", "[::1]:6379"])
def test_a_valid_address_is_accepted(address: str | None) -> None:
    check_address(address)


@pytest.mark.parametrize("address", ["ray://head:10001", "head", "http://head:8265", "head:port", "local"])
def test_an_invalid_address_is_refused(address: str) -> None:
    with pytest.raises(BadInputError, match=r"^--address: expected auto, or HOST:PORT of a Ray cluster, got"):
        check_address(address)


def test_an_existing_data_root_is_accepted(tmp_path: Path) -> None:
    check_paths(space(tmp_path, f"train.data.root={tmp_path}"))
    check_paths(space(tmp_path))  # the default may be missing: digits reads no folder


def test_a_missing_data_root_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        BadInputError, match=r"train\.data\.root: expected a folder that exists \(digits is embedded"
    ):
        check_paths(space(tmp_path, f"train.data.root={tmp_path}/nowhere"))


def test_the_default_folder_must_exist_for_a_data_set_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for dataset in ("cifar10", "cifar100", "tinyimagenet", "imagenet", "imagenet100", "folder"):
        searched = space(tmp_path, f"train.data.dataset={dataset}")
        with pytest.raises(BadInputError, match=r"data\.root: expected a folder that exists, got data$"):
            check_paths(searched)
        (tmp_path / "data").mkdir()
        check_paths(searched)
        (tmp_path / "data").rmdir()


def test_existing_or_omitted_weights_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").touch()
    check_paths(space(tmp_path, f"train.model.weights={tmp_path}/weights.pth"))
    check_paths(space(tmp_path))


def test_missing_weights_are_refused(tmp_path: Path) -> None:
    searched = space(tmp_path, f"train.model.weights={tmp_path}/nowhere.pth")
    with pytest.raises(BadInputError, match=r"train\.model\.weights: expected a file that exists, got /"):
        check_paths(searched)


def test_a_path_missing_on_a_node_is_refused_with_its_name(tmp_path: Path) -> None:
    searched = space(tmp_path, f"train.data={{dataset: folder, root: {tmp_path}/nowhere}}")
    expected = "a folder that exists on every node that can run a worker (missing on 10.0.0.7)"
    with pytest.raises(
        BadInputError, match=rf"train\.data\.root: expected {re.escape(expected)}, got {tmp_path}/nowhere$"
    ):
        refuse_missing(searched, missing_paths(needed_paths(searched)), node="10.0.0.7")
