from collections.abc import Mapping

import pytest

from tune_jobs.doctor.finding import Level
from tune_jobs.doctor.variables import check


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"http_proxy": ""},
        {"http_proxy": "http://p:3128", "no_proxy": "localhost,127.0.0.1"},
        {"HTTPS_PROXY": "http://p:3128", "NO_PROXY": "*"},
        {"OMP_NUM_THREADS": "2"},
    ],
)
def test_an_ordinary_environment_is_ok(environment: Mapping[str, str]) -> None:
    (finding,) = check(environment, 2.0)
    assert finding.level == Level.OK


@pytest.mark.parametrize(
    ("environment", "found"),
    [
        (
            {"http_proxy": "http://me:secret@p:3128", "no_proxy": "example.com"},
            "http_proxy=http://me:***@p:3128 also applies to requests to 127.0.0.1 and localhost",
        ),
        (
            {"ALL_PROXY": "http://p", "no_proxy": "127.0.0.1"},
            "all_proxy=http://p also applies to requests to localhost",
        ),
        ({"CUDA_VISIBLE_DEVICES": ""}, "CUDA_VISIBLE_DEVICES=: no GPU is used"),
        ({"CUDA_VISIBLE_DEVICES": "-1"}, "CUDA_VISIBLE_DEVICES=-1: no GPU is used"),
        ({"CUDA_VISIBLE_DEVICES": "1"}, "CUDA_VISIBLE_DEVICES=1: the other GPUs are not used"),
        (
            {"OMP_NUM_THREADS": "1"},
            "OMP_NUM_THREADS=1: sets the number of threads of each worker, regardless of its CPUs",
        ),
        (
            {"OMP_NUM_THREADS": "a"},
            "OMP_NUM_THREADS=a: sets the number of threads of each worker, regardless of its CPUs",
        ),
    ],
)
def test_a_variable_that_affects_a_search_is_noted(environment: Mapping[str, str], found: str) -> None:
    (finding,) = check(environment, 2.0)
    assert (finding.level, finding.message) == (Level.NOTE, found)


def test_each_variable_has_a_line() -> None:
    environment = {"http_proxy": "http://p", "CUDA_VISIBLE_DEVICES": "0", "OMP_NUM_THREADS": "1"}
    assert [finding.level for finding in check(environment, None)] == [Level.NOTE] * 3
