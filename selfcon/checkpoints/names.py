"""What the folder of a checkpoint is called: the moment that it holds, and the attempt that wrote it."""

import re

_FOLDER = re.compile(r"(?P<epoch>\d+)(?:-s(?P<step>\d+))?-a(?P<attempt>\d+)")


def checkpoint_name(*, epoch: int, attempt: int, step: int = 0) -> str:
    """Return the name of a checkpoint's folder: `0003-a1`, or `0003-s000017-a1` of a run within an epoch.

    `epoch` counts finished epochs and `step` the steps of the next one; no two moments share a name.
    """
    return f"{epoch:04d}-s{step:06d}-a{attempt}" if step else f"{epoch:04d}-a{attempt}"


def order_of_checkpoint(name: str) -> tuple[int, int, int] | None:
    """Return (epoch, step, attempt) of a folder's name, which sort as moments do; None for another name."""
    match = _FOLDER.fullmatch(name)
    return (int(match["epoch"]), int(match["step"] or 0), int(match["attempt"])) if match else None
