"""The folder of a trial: where its attempts write, and which checkpoints stay.

trials/0007/checkpoints/<epoch>-a<attempt>/    complete checkpoints, ours
trials/0007/attempts/<attempt>/                Ray Train's own files, never read back
trials/0007-seed-1/                            the same of another seed of the trial (confirmation.py)
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from tune_jobs.errors import StorageError
from tune_jobs.records import TrialRecord

KEPT_CHECKPOINTS = 2


def trial_folder(search_folder: Path, name: str) -> Path:
    """Return the folder of a trial, by its `name` (`TrialRecord.name`), in the folder of its search."""
    return search_folder / "trials" / name


def refuse_unknown_trials(search_folder: Path, records: Sequence[TrialRecord], *, database: str) -> None:
    """Raise `StorageError` for the folder of a trial that the study does not have: then the study was lost.

    A search that began anew beside them would take their checkpoints for its own.
    """
    trials, known = search_folder / "trials", {record.name for record in records}
    unknown = sorted({path.name for path in trials.iterdir()} - known) if trials.is_dir() else []
    if unknown:
        raise StorageError(
            f"{trials / unknown[0]}: the study in {database} has no such trial"
            f" (put the lost database back, or move {trials} away)"
        )


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
