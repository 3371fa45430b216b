import tomllib
from pathlib import Path

import pytest

from tune_jobs.doctor.check import ROOT
from tune_jobs.doctor.finding import Level
from tune_jobs.doctor.installation import (
    MIN_PYTHON,
    Package,
    check,
    code_finding,
    package_findings,
    pinned,
    python_finding,
    required,
)

HERE = Path("/here")


@pytest.mark.parametrize(("version", "level"), [((3, 11, 0), Level.OK), ((3, 10, 9), Level.FAULT)])
def test_python_must_be_new_enough(version: tuple[int, int, int], level: Level) -> None:
    assert python_finding(version, "/bin/python").level == level


def test_the_minimum_python_is_that_of_the_project() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={MIN_PYTHON[0]}.{MIN_PYTHON[1]}"


@pytest.mark.parametrize(
    ("commit", "level", "found"),
    [
        ("0123456789abcdef", Level.OK, "/here, commit 0123456789"),
        ("0123456789abcdef-dirty", Level.NOTE, "/here, commit 0123456789 with uncommitted changes"),
        (None, Level.OK, "/here, not a git checkout"),
    ],
)
def test_uncommitted_changes_are_noted(commit: str | None, level: Level, found: str) -> None:
    finding = code_finding(commit, HERE)
    assert (finding.level, finding.message) == (level, found)


@pytest.mark.parametrize(
    ("installed", "level", "found"),
    [
        ("2.14.1", Level.OK, "torch 2.14.1"),
        ("2.14.1+cu130", Level.OK, "torch 2.14.1+cu130"),
        ("2.9.0", Level.OK, "torch 2.9.0"),
        ("2.8.9", Level.FAULT, "torch 2.8.9, older than 2.9"),
        ("2.15.0", Level.NOTE, "newer than tested: torch 2.15.0 (2.14.1)"),
        (None, Level.FAULT, "not installed for this Python: torch"),
    ],
)
def test_a_package_is_compared_with_the_minimum_and_the_tested_version(
    installed: str | None, level: Level, found: str
) -> None:
    (finding,) = package_findings([Package("torch", "2.9", "2.14.1", installed)])
    assert (finding.level, finding.message) == (level, found)


def test_without_a_tested_version_newer_ones_are_ok() -> None:
    (finding,) = package_findings([Package("torch", "2.9", None, "99")])
    assert finding.level == Level.OK


def test_ok_packages_share_a_line_and_others_have_one_each() -> None:
    packages = [
        Package("a", "1", "2", "2"),
        Package("b", "1", "2", "0.5"),
        Package("c", "1", "2", "1.0"),
        Package("d", "1", "2", "3"),
    ]
    assert [finding.message for finding in package_findings(packages)] == [
        "b 0.5, older than 1",
        "newer than tested: d 3 (2)",
        "a 2, c 1.0",
    ]


def test_versions_are_not_compared_without_packaging() -> None:
    packages = [Package("packaging", "24", None, None), Package("torch", "2.9", None, None)]
    (finding,) = package_findings(packages)
    assert finding.message == "not installed for this Python: packaging, torch"


def test_every_dependency_is_checked_and_pinned() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert len(required()) == len(dependencies)
    assert ("ray", "2.59") in required()
    names = {name.lower() for name in pinned((ROOT / "constraints.txt").read_text())}
    assert {name for name, _ in required()} <= names


def test_this_installation_has_no_faults() -> None:
    assert Level.FAULT not in {finding.level for finding in check()}
