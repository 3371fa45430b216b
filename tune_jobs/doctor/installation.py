"""Installation: the code, Python, and each required package."""

import platform
import re
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

from tune_jobs.doctor.check import ROOT
from tune_jobs.doctor.finding import Finding, fault, note, ok
from tune_jobs.provenance import commit_of_source

PROJECT = "selfcon-search"
MIN_PYTHON = (3, 11)
SHORT_COMMIT = 10
INSTALL = "pip install --constraint constraints.txt --editable ."


def python_finding(found: tuple[int, int, int], executable: str) -> Finding:
    """Return the finding on the version of Python."""
    words = f"{'.'.join(map(str, found))}, {executable}"
    if found >= MIN_PYTHON:
        return ok("Python", words)
    minimum = ".".join(map(str, MIN_PYTHON))
    return fault("Python", words, f"run the launcher with Python {minimum} or newer (.venv/bin/python)")


def code_finding(commit: str | None, folder: Path) -> Finding:
    """Return the finding on the code; `commit` is that of `provenance.commit_of_source`."""
    if commit is None:
        return ok("code", f"{folder}, not a git checkout")
    name, _, dirty = commit.partition("-")
    if dirty:
        remedy = "commit them, so that the recorded commit identifies the code"
        return note("code", f"{folder}, commit {name[:SHORT_COMMIT]} with uncommitted changes", remedy)
    return ok("code", f"{folder}, commit {name[:SHORT_COMMIT]}")


def check() -> Iterator[Finding]:
    """Yield the findings on the code, Python and the packages."""
    yield code_finding(commit_of_source(), ROOT)
    major, minor, micro = map(int, re.findall(r"\d+", platform.python_version())[:3])
    yield python_finding((major, minor, micro), sys.executable)
    constraints = ROOT / "constraints.txt"
    pins = pinned(constraints.read_text()) if constraints.is_file() else {}
    found = [Package(name, minimum, pins.get(name), installed_version(name)) for name, minimum in required()]
    yield from package_findings(found)


@dataclass(frozen=True)
class Package:
    """Required package: its minimum, tested and installed versions."""

    name: str
    minimum: str
    tested: str | None
    installed: str | None


def package_findings(packages: Sequence[Package]) -> Iterator[Finding]:
    """Yield a finding for all ok packages, one for all newer than tested, and one for each fault."""
    missing = [package.name for package in packages if package.installed is None]
    if missing:
        # Usually all of them, because the launcher was started with a Python outside .venv.
        yield fault("packages", f"not installed for this Python: {', '.join(missing)}",
                    f"start the launcher with .venv/bin/python, or: {INSTALL}")  # fmt: skip
    present = [package for package in packages if package.installed is not None]
    if "packaging" in missing:
        return
    old = [package for package in present if _is_older(package.installed, package.minimum)]
    newer = [
        package for package in present if package.tested and _is_older(package.tested, package.installed)
    ]
    for package in old:
        message = f"{package.name} {package.installed}, older than {package.minimum}"
        yield fault("packages", message, INSTALL)
    if newer:
        words = ", ".join(f"{package.name} {package.installed} ({package.tested})" for package in newer)
        yield note("packages", f"newer than tested: {words}", f"if something fails: {INSTALL}")
    good = [package for package in present if package not in old and package not in newer]
    if good:
        yield ok("packages", ", ".join(f"{package.name} {package.installed}" for package in good))


def required() -> list[tuple[str, str]]:
    """Return the required packages with their minimum versions."""
    found = [
        re.match(r"([\w.-]+)[^;]*?>=\s*([\w.]+)", text) for text in _requirements() if "extra" not in text
    ]
    return [(match[1], match[2]) for match in found if match]


def _requirements() -> list[str]:
    """Dependencies in pyproject.toml, if it exists, because the installed metadata may be older."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text())["project"]["dependencies"])
    return requires(PROJECT) or []


def pinned(constraints: str) -> Mapping[str, str]:
    """Return the pinned versions of a constraints file."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", constraints, re.MULTILINE))


def installed_version(package: str) -> str | None:
    """Return the installed version of a package, None if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_older(version: str | None, than: str | None) -> bool:
    """Compare versions without their local label, such as +cu130."""
    from packaging.version import Version

    assert version is not None
    assert than is not None
    return Version(Version(version).public) < Version(Version(than).public)
