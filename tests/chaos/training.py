"""Record of the training, observed by the checkpoints that appear while a search runs."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

MANIFEST = "manifest.json"  # written last
_CHECKPOINT = re.compile(r"(\d+)-a(\d+)")


@dataclass(frozen=True)
class Saved:
    """Complete checkpoint: of an epoch that an attempt has finished, or from which it resumes.

    `seen_ms` is when it was first seen, in milliseconds since 1970, as in the study.
    """

    trial: int
    attempt: int
    epoch: int
    seen_ms: int


class TrainingMonitor:
    """Polls the checkpoints of a search. Old ones are removed, so poll often enough to see all.

    `manifests` returns the existing manifests, by default those in the folder of the search. Checkpoints
    within an epoch, saved because of a preemption notice, are ignored.
    """

    def __init__(
        self, search_folder: Path, *, manifests: Callable[[], Iterable[PurePath]] | None = None
    ) -> None:
        folder = search_folder / "trials"
        self._manifests = manifests or (lambda: folder.glob(f"*/checkpoints/*/{MANIFEST}"))
        self._found: dict[PurePath, Saved] = {}

    def poll(self) -> None:
        """Record new checkpoints."""
        for path in self._manifests():
            name = _CHECKPOINT.fullmatch(path.parent.name)
            if path not in self._found and name is not None:
                trial, now_ms = int(path.parents[2].name), time.time_ns() // 1_000_000
                self._found[path] = Saved(trial, int(name[2]), int(name[1]), now_ms)

    @property
    def saved(self) -> list[Saved]:
        """All recorded checkpoints, in order."""
        return list(self._found.values())
