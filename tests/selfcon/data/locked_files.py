"""Files and folders without read permission, also if root runs the tests."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def locked(path: Path, *, mode: int = 0) -> Iterator[None]:
    """Set the mode of a path, and switch from root to another user, inside the context."""
    user, before = os.geteuid(), path.stat().st_mode
    path.chmod(mode)
    os.seteuid(user or NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(before)
