"""What version 0.1 left behind: two searches, their checkpoints, and MLflow's records with an encoder.

`fixtures/version_0_1.tar.xz` holds the folder in which two searches ran on an MLflow server: `done`, which
ended and registered its encoder as `digits-0-1`, and `killed`, whose launcher was killed (SIGKILL) while its
last trial was in training. Files that are never read back were left out.
"""

import tarfile
from pathlib import Path

from tests.project import ROOT

VERSION_0_1 = ROOT / "tests/fixtures/version_0_1.tar.xz"


def unpack(folder: Path) -> Path:
    """Return the folder, which then holds what version 0.1 left behind."""
    with tarfile.open(VERSION_0_1) as archive:
        archive.extractall(folder, filter="data")
    return folder
