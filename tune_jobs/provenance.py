"""Provenance of a search: the commit of this project, package versions, and the system."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("selfcon-search", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def commit_of_source(folder: Path | None = None) -> str | None:
    """Return the commit of the project in `folder` (default: this one), with `-dirty` if files changed.

    Returns None without git, or if the folder is not the root of a repository, as for an installed package.
    """
    folder = folder or Path(__file__).resolve().parents[1]
    root = _git(folder, "rev-parse", "--show-toplevel")
    commit = _git(folder, "rev-parse", "HEAD")
    if root is None or commit is None or Path(root) != folder:
        return None
    return f"{commit}-dirty" if _git(folder, "status", "--porcelain", "--untracked-files=no") else commit


def shown_commit(commit: str | None) -> str:
    """Return a short text for a commit: its first 12 digits, and whether files were changed."""
    if commit is None:
        return "an unknown commit"
    name, _, dirty = commit.partition("-")
    return f"commit {name[:12]}{' with changes' if dirty else ''}"


def environment_tags() -> dict[str, str]:
    """Return tags with the versions of Python and of the packages that affect results, and the system."""
    found = {f"selfcon.version.{name}": _version(name) for name in PACKAGES}
    return {
        "selfcon.version.python": platform.python_version(),
        "selfcon.system": platform.platform(),
        **{name: value for name, value in found.items() if value is not None},
    }


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(folder), *arguments], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # the project runs from a folder without installation
        return None
