"""What a search runs on: versions and system, as tags of its runs."""

import platform
from importlib.metadata import PackageNotFoundError, version

PACKAGES = ("selfcon-search", "torch", "torchvision", "ray", "optuna", "mlflow", "numpy")


def environment_tags() -> dict[str, str]:
    """Return the versions of Python, of the packages that decide results, and the launcher's system."""
    found = {f"selfcon.version.{name}": _version(name) for name in PACKAGES}
    return {
        "selfcon.version.python": platform.python_version(),
        "selfcon.system": platform.platform(),
        **{name: value for name, value in found.items() if value is not None},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:  # run from a folder that was not installed
        return None
