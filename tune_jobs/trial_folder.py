"""The folder of a trial: where its attempts write, and which checkpoints stay.

trials/0007/checkpoints/<epoch>-a<attempt>/            complete checkpoints, ours
trials/0007/checkpoints/<epoch>-s<step>-a<attempt>/    of an attempt that was stopped within an epoch
trials/0007/attempts/<attempt>/                        Ray Train's own files, never read back
trials/0007-seed-1/                                    the same of another seed (confirmation.py)
"""

import shutil
from collections.abc import Sequence
from pathlib import Path

from selfcon.checkpoint_names import checkpoint_name, order_of_checkpoint
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


def checkpoint_path(folder: Path, *, epoch: int, attempt: int, step: int = 0) -> Path:
    """Return where an attempt writes the checkpoint of a moment; no other attempt writes there.

    `step` counts those taken since the end of `epoch`.
    """
    return checkpoints_folder(folder) / checkpoint_name(epoch=epoch, step=step, attempt=attempt)


def remove_old_checkpoints(folder: Path, *, epoch: int) -> None:
    """Remove what nobody goes on from any more, once the checkpoint of `epoch` is valid.

    The newest epochs stay, so that there is another where one is damaged; of earlier ones, and from within
    epochs that are over, nothing does.
    """
    for path in checkpoints_folder(folder).iterdir():
        order = order_of_checkpoint(path.name)
        if order is None:
            continue
        finished, step, _ = order
        if finished <= epoch - KEPT_CHECKPOINTS or (step and finished < epoch):
            shutil.rmtree(path)
