"""Which classes a judge takes for which: the confusion matrix, as its diagonal and its largest other entries.

Shape letters: M judged images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # who only reads one needs no torch
    from torch import Tensor

# A thousand classes have a million pairs; a study, and a reader, want the ones that matter.
MAX_PAIRS = 1000
MAX_CLASSES = 2000  # a text of 64 KB is the most that some databases store


@dataclass(frozen=True)
class Confusion:
    """Of the images of each class (`totals`) how many were named rightly (`correct`), and the wrong `pairs`.

    A pair is (class, class that was named, number of images); the most frequent first, `MAX_PAIRS` at most.
    """

    totals: tuple[int, ...]
    correct: tuple[int, ...]
    pairs: tuple[tuple[int, int, int], ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Confusion:
        """Return what `as_json` made values of."""
        pairs = tuple((int(true), int(named), int(count)) for true, named, count in values["pairs"])
        return cls(totals=tuple(values["totals"]), correct=tuple(values["correct"]), pairs=pairs)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "totals": list(self.totals),
            "correct": list(self.correct),
            "pairs": [list(pair) for pair in self.pairs],
        }


def confusion_of(named_M: Tensor, labels_M: Tensor, *, num_classes: int) -> Confusion | None:
    """Return how the classes that were named compare with the labels, both (M,) and in [0, num_classes).

    None for more than `MAX_CLASSES`.
    """
    if num_classes > MAX_CLASSES:
        return None
    counts = Counter(zip(labels_M.tolist(), named_M.tolist(), strict=True))
    totals = labels_M.bincount(minlength=num_classes).tolist()
    wrong = [(true, named, count) for (true, named), count in counts.items() if true != named]
    wrong.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    return Confusion(
        totals=tuple(totals),
        correct=tuple(counts[label, label] for label in range(num_classes)),
        pairs=tuple(wrong[:MAX_PAIRS]),
    )
