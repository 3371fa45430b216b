"""Names of checkpoint folders: epoch, step, and the attempt that wrote it."""

import re

_FOLDER = re.compile(r"(?P<epoch>\d+)(?:-s(?P<step>\d+))?-a(?P<attempt>\d+)")


def checkpoint_name(*, epoch: int, attempt: int, step: int = 0) -> str:
    """Return the name of a checkpoint folder: `0003-a1`, or `0003-s000017-a1` within an epoch.

    `epoch` is the number of finished epochs, `step` that of finished steps of the next one.
    """
    return f"{epoch:04d}-s{step:06d}-a{attempt}" if step else f"{epoch:04d}-a{attempt}"


def order_of_checkpoint(name: str) -> tuple[int, int, int] | None:
    """Return (epoch, step, attempt) of a folder name, which sort by training progress; None for other
    names."""
    match = _FOLDER.fullmatch(name)
    return (int(match["epoch"]), int(match["step"] or 0), int(match["attempt"])) if match else None
