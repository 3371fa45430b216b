"""What is really trained, told from outside: by the checkpoints that appear while a search runs."""

import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path, PurePath

MANIFEST = "manifest.json"  # written last
_CHECKPOINT = re.compile(r"(\d+)-a(\d+)")


@dataclass(frozen=True)
class Saved:
    """A complete checkpoint: an attempt has finished an epoch, or begins with the one that it found.

    `seen_ms` is the time it was first seen, in milliseconds since 1970, as in the study.
    """

    trial: int
    attempt: int
    epoch: int
    seen_ms: int


class TrainingWatch:
    """Looks at the checkpoints of a search again and again; old ones vanish, so often enough to miss none.

    `manifests` returns the manifests that are there now, by default those in the search's folder. What an
    attempt saves within an epoch, because its node is taken back, is no finished epoch and is passed over.
    """

    def __init__(
        self, search_folder: Path, *, manifests: Callable[[], Iterable[PurePath]] | None = None
    ) -> None:
        folder = search_folder / "trials"
        self._manifests = manifests or (lambda: folder.glob(f"*/checkpoints/*/{MANIFEST}"))
        self._found: dict[PurePath, Saved] = {}

    def look(self) -> None:
        """Take note of what is new."""
        for path in self._manifests():
            name = _CHECKPOINT.fullmatch(path.parent.name)
            if path not in self._found and name is not None:
                trial, now_ms = int(path.parents[2].name), time.time_ns() // 1_000_000
                self._found[path] = Saved(trial, int(name[2]), int(name[1]), now_ms)

    @property
    def saved(self) -> list[Saved]:
        """What was seen, in the order in which it was."""
        return list(self._found.values())
