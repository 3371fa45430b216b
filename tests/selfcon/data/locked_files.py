"""Files and folders that may not be read, for whoever runs the tests: root too, who may read everything."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

NOBODY = 65534


@pytest.fixture
def open_path() -> Iterator[Path]:
    """Return a folder that any user may search, which those of pytest are not."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder).resolve()


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
