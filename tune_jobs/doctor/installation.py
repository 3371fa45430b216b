"""What is installed: the code, Python, and each package the project depends on."""

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
    """Return whether the running Python is new enough."""
    words = f"{'.'.join(map(str, found))}, {executable}"
    if found >= MIN_PYTHON:
        return ok("Python", words)
    least = ".".join(map(str, MIN_PYTHON))
    return fault("Python", words, f"run the launcher with Python {least} or newer (.venv/bin/python)")


def code_finding(commit: str | None, folder: Path) -> Finding:
    """Return which code runs; `commit` is `source_code.commit_of_source`'s."""
    if commit is None:
        return ok("code", f"{folder}, no git checkout")
    name, _, dirty = commit.partition("-")
    if dirty:
        remedy = "commit them: a search tells by the commit what it ran on"
        return note("code", f"{folder}, commit {name[:SHORT_COMMIT]} and changed files", remedy)
    return ok("code", f"{folder}, commit {name[:SHORT_COMMIT]}")


def look() -> Iterator[Finding]:
    """Yield a line for the code, one for Python, and those of the packages."""
    yield code_finding(commit_of_source(), ROOT)
    major, minor, micro = map(int, re.findall(r"\d+", platform.python_version())[:3])
    yield python_finding((major, minor, micro), sys.executable)
    constraints = ROOT / "constraints.txt"
    pins = pinned(constraints.read_text()) if constraints.is_file() else {}
    found = [Package(name, least, pins.get(name), installed_version(name)) for name, least in required()]
    yield from package_findings(found)


@dataclass(frozen=True)
class Package:
    """A package that is needed: its oldest version, the one it is tested with, the one that is here."""

    name: str
    least: str
    tested: str | None
    installed: str | None


def package_findings(packages: Sequence[Package]) -> Iterator[Finding]:
    """Yield a line for all that is well, one for what is newer than tested, and one for each fault."""
    missing = [package.name for package in packages if package.installed is None]
    if missing:
        # Most often all: the launcher was started by another Python than the one of .venv.
        yield fault("packages", f"not installed for this Python: {', '.join(missing)}",
                    f"start the launcher with .venv/bin/python, or: {INSTALL}")  # fmt: skip
    here = [package for package in packages if package.installed is not None]
    if "packaging" in missing:
        return
    old = [package for package in here if _is_older(package.installed, package.least)]
    newer = [package for package in here if package.tested and _is_older(package.tested, package.installed)]
    for package in old:
        found = f"{package.name} {package.installed}, older than {package.least}"
        yield fault("packages", found, INSTALL)
    if newer:
        words = ", ".join(f"{package.name} {package.installed} ({package.tested})" for package in newer)
        yield note("packages", f"newer than tested: {words}", f"where something fails: {INSTALL}")
    well = [package for package in here if package not in old and package not in newer]
    if well:
        yield ok("packages", ", ".join(f"{package.name} {package.installed}" for package in well))


def required() -> list[tuple[str, str]]:
    """Return each package that the project needs, with the oldest version that may do."""
    found = [
        re.match(r"([\w.-]+)[^;]*?>=\s*([\w.]+)", text) for text in _requirements() if "extra" not in text
    ]
    return [(match[1], match[2]) for match in found if match]


def _requirements() -> list[str]:
    """The checkout's own list, where there is one: what was installed from it may be older."""
    project = ROOT / "pyproject.toml"
    if project.is_file():
        return list(tomllib.loads(project.read_text())["project"]["dependencies"])
    return requires(PROJECT) or []


def pinned(constraints: str) -> Mapping[str, str]:
    """Return the version of each package that a constraints file pins."""
    return dict(re.findall(r"^([\w.-]+)==(\S+)", constraints, re.MULTILINE))


def installed_version(package: str) -> str | None:
    """Return the version of a package that this Python would import, None without it."""
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _is_older(version: str | None, than: str | None) -> bool:
    """Compare without the name of a build, such as +cu130."""
    from packaging.version import Version

    assert version is not None
    assert than is not None
    return Version(Version(version).public) < Version(Version(than).public)
