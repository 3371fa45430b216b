"""Figures of one trial as PNG files for its MLflow run: pure functions of its record."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any

from selfcon.evaluation.confusion import Confusion
from tune_jobs.study.records import TrialRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE = "#0072B2"
DPI = 110
# A larger matrix is unreadable as an image; the CSV file has its pairs.
MAX_CLASSES = 100
_MAX_LABELLED_CLASSES = 25


def _drawn(draw: Callable[..., bytes | None]) -> Callable[..., bytes | None]:
    """Draw in matplotlib's default style, independent of the user's, without parsing `$` as mathematics."""

    @wraps(draw)
    def in_default_style(*arguments: Any, **keywords: Any) -> bytes | None:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # no messages about its font cache
        import matplotlib.style

        with warnings.catch_warnings(), matplotlib.style.context(["default", {"text.parse_math": False}]):
            warnings.simplefilter("ignore")  # a character missing in the font is drawn as a box
            return draw(*arguments, **keywords)

    return in_default_style


@_drawn
def exits_accuracies(record: TrialRecord) -> bytes | None:
    """Return a bar chart of the newest evaluation's accuracies, exits first; None without an evaluation."""
    evaluated = [epoch for epoch in record.epochs if "val/top1" in epoch.metrics]
    if not evaluated:
        return None
    metrics = evaluated[-1].metrics
    exits = sorted(name for name in metrics if name.startswith("val/exit"))
    names = [*exits, *(name for name in ("val/top1", "val/ensemble_top1", "val/knn_top1") if name in metrics)]
    figure = _figure(6, 1.2 + 0.4 * len(names))
    axes = figure.subplots()
    bars = axes.barh(names, [metrics[name] for name in names], color=BLUE)
    axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.15), xlabel="accuracy", title=f"after epoch {evaluated[-1].epoch}")
    return _png(figure, f"trial {record.label}")


@_drawn
def confusion_matrix(confusion: Confusion, class_names: Sequence[str], *, title: str) -> bytes | None:
    """Return the confusion matrix, rows normalised by class; None for more than `MAX_CLASSES` classes."""
    import numpy as np

    num_classes = len(confusion.totals)
    if num_classes > MAX_CLASSES:
        return None
    counts = np.diag(np.array(confusion.correct, dtype=float))
    for true, predicted, count in confusion.pairs:
        counts[true, predicted] = count
    shares = counts / np.maximum(confusion.totals, 1)[:, None]
    figure = _figure(7, 6)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the true class")
    axes.set(xlabel="predicted class", ylabel="true class", title=title)
    if num_classes <= _MAX_LABELLED_CLASSES:
        axes.set_xticks(range(num_classes), class_names, rotation=90)
        axes.set_yticks(range(num_classes), class_names)
        _write_counts(axes, counts, shares)
    return _png(figure, None)


def _write_counts(axes: Axes, counts: Any, shares: Any) -> None:
    for row, column in zip(*counts.nonzero(), strict=True):
        color = "black" if shares[row, column] > 0.5 else "white"
        text = f"{int(counts[row, column])}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _figure(width: float, height: float) -> Figure:
    """A figure without pyplot, whose state is global: this is called from a thread."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure, title: str | None) -> bytes:
    if title is not None:
        figure.suptitle(title)
    content = io.BytesIO()
    # Without matplotlib's version, so that equal records give equal files.
    metadata: Mapping[str, Any] = {"Software": None}
    figure.savefig(content, format="png", dpi=DPI, metadata=dict(metadata))
    return content.getvalue()
