"""Confusion matrix of a classifier, as its diagonal and its largest other entries.

Shape letters: M evaluated images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # reading one does not need torch
    from torch import Tensor

# A thousand classes have a million pairs; only the largest matter.
MAX_PAIRS = 1000
MAX_CLASSES = 2000  # some databases store at most 64 KB of text


@dataclass(frozen=True)
class Confusion:
    """Number of images of each class (`totals`), of correct predictions (`correct`), and the wrong `pairs`.

    A pair is (class, predicted class, number of images); the most frequent first, at most `MAX_PAIRS`.
    """

    totals: tuple[int, ...]
    correct: tuple[int, ...]
    pairs: tuple[tuple[int, int, int], ...]

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Confusion:
        """Return the confusion matrix of the JSON values of `as_json`."""
        pairs = tuple((int(true), int(predicted), int(count)) for true, predicted, count in values["pairs"])
        return cls(totals=tuple(values["totals"]), correct=tuple(values["correct"]), pairs=pairs)

    def as_json(self) -> dict[str, Any]:
        """Return JSON values."""
        return {
            "totals": list(self.totals),
            "correct": list(self.correct),
            "pairs": [list(pair) for pair in self.pairs],
        }


def confusion_of(predicted_M: Tensor, labels_M: Tensor, *, num_classes: int) -> Confusion | None:
    """Return the confusion matrix of predicted classes and labels, both (M,) in [0, num_classes).

    None for more than `MAX_CLASSES`.
    """
    if num_classes > MAX_CLASSES:
        return None
    counts = Counter(zip(labels_M.tolist(), predicted_M.tolist(), strict=True))
    totals = labels_M.bincount(minlength=num_classes).tolist()
    wrong = [(true, predicted, count) for (true, predicted), count in counts.items() if true != predicted]
    wrong.sort(key=lambda pair: (-pair[2], pair[0], pair[1]))
    return Confusion(
        totals=tuple(totals),
        correct=tuple(counts[label, label] for label in range(num_classes)),
        pairs=tuple(wrong[:MAX_PAIRS]),
    )
