"""Files and folders that may not be read, for whoever runs the tests: root too, who may read everything."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

NOBODY = 65534


@contextmanager
def locked(path: Path, *, mode: int = 0) -> Iterator[None]:
    """Give a path that mode meanwhile, and be a user to whom modes apply."""
    user, before = os.geteuid(), path.stat().st_mode
    path.chmod(mode)
    os.seteuid(user or NOBODY)
    try:
        yield
    finally:
        os.seteuid(user)
        path.chmod(before)
