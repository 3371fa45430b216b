"""The folder of a trial: where its attempts write, and which checkpoints stay.

trials/0007/checkpoints/<epoch>-a<attempt>/    complete checkpoints, ours
trials/0007/attempts/<attempt>/                Ray Train's own files, never read back
"""

import shutil
from pathlib import Path

KEPT_CHECKPOINTS = 2


def trial_name(number: int) -> str:
    """Return the name of a trial in MLflow: `trial-0007`."""
    return f"trial-{number:04d}"


def trial_folder(search_folder: Path, number: int) -> Path:
    """Return the folder of a trial in the folder of its search."""
    return search_folder / "trials" / f"{number:04d}"


def checkpoints_folder(folder: Path) -> Path:
    """Return the folder that holds a trial's checkpoints."""
    return folder / "checkpoints"


def checkpoint_path(folder: Path, *, epoch: int, attempt: int) -> Path:
    """Return where an attempt writes the checkpoint of an epoch; no other attempt writes there."""
    return checkpoints_folder(folder) / f"{epoch:04d}-a{attempt}"


def remove_old_checkpoints(folder: Path, *, epoch: int) -> None:
    """Remove what is older than the newest kept ones, once the checkpoint of `epoch` is valid."""
    for path in checkpoints_folder(folder).iterdir():
        if int(path.name.split("-")[0]) <= epoch - KEPT_CHECKPOINTS:
            shutil.rmtree(path)
