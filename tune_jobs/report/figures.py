"""Figures of a search and its trials as PNG files: pure functions of the records."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from itertools import accumulate, cycle
from typing import TYPE_CHECKING, Any

from selfcon.evaluation.confusion import Confusion
from tune_jobs.study.records import State, TrialRecord
from tune_jobs.wording import shown_value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Told apart by people who see colours differently: Okabe and Ito, Color Universal Design, 2008.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
DPI = 110
# Larger matrices are no picture: the table has their pairs.
MAX_CLASSES = 100
_NAMED_CLASSES = 25


def _drawn(draw: Callable[..., bytes | None]) -> Callable[..., bytes | None]:
    """Draw in matplotlib's own style, whatever the user's is, and take names as they are, `$` too."""

    @wraps(draw)
    def in_our_style(*arguments: Any, **named: Any) -> bytes | None:
        logging.getLogger("matplotlib").setLevel(logging.ERROR)  # building its cache of fonts is no news
        import matplotlib.style

        with warnings.catch_warnings(), matplotlib.style.context(["default", {"text.parse_math": False}]):
            warnings.simplefilter("ignore")  # a letter that the font lacks is a box
            return draw(*arguments, **named)

    return in_our_style


@_drawn
def learning_curves(record: TrialRecord) -> bytes | None:
    """Return loss and accuracies by epoch; None for a trial without a trained epoch."""
    if record.last_epoch < 1:
        return None
    figure = _figure(10, 4)
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(*zip(*record.series("train/loss"), strict=True), color=COLORS[0], marker=".")
    loss.set(xlabel="epoch", ylabel="train/loss", title="loss")
    names = sorted({name for epoch in record.epochs for name in epoch.metrics if name.startswith("val/")})
    for name, color in zip(names, cycle(COLORS), strict=False):
        points = [(epoch.epoch, epoch.metrics[name]) for epoch in record.epochs if name in epoch.metrics]
        accuracy.plot(*zip(*points, strict=True), color=color, marker=".", label=name)
    accuracy.set(xlabel="epoch", ylabel="accuracy", title="validation accuracy (epoch 0 is untrained)")
    accuracy.legend()
    _count_in_whole_numbers(loss, accuracy)
    return _png(figure, f"trial {record.label}")


@_drawn
def exits_accuracies(record: TrialRecord) -> bytes | None:
    """Return the accuracies of the newest evaluation as bars, exits first; None where there was none."""
    evaluated = [epoch for epoch in record.epochs if "val/top1" in epoch.metrics]
    if not evaluated:
        return None
    metrics = evaluated[-1].metrics
    exits = sorted(name for name in metrics if name.startswith("val/exit"))
    names = [*exits, *(name for name in ("val/top1", "val/ensemble_top1", "val/knn_top1") if name in metrics)]
    figure = _figure(6, 1.2 + 0.4 * len(names))
    axes = figure.subplots()
    bars = axes.barh(names, [metrics[name] for name in names], color=COLORS[0])
    axes.bar_label(bars, fmt="%.4f", padding=3)
    axes.invert_yaxis()
    axes.set(xlim=(0, 1.15), xlabel="accuracy", title=f"after epoch {evaluated[-1].epoch}")
    return _png(figure, f"trial {record.label}")


@_drawn
def confusion_matrix(confusion: Confusion, class_names: Sequence[str], *, title: str) -> bytes | None:
    """Return the matrix, each row as shares of its class; None for more classes than a picture can show."""
    import numpy as np

    num_classes = len(confusion.totals)
    if num_classes > MAX_CLASSES:
        return None
    counts = np.diag(np.array(confusion.correct, dtype=float))
    for true, named, count in confusion.pairs:
        counts[true, named] = count
    shares = counts / np.maximum(confusion.totals, 1)[:, None]
    figure = _figure(7, 6)
    axes = figure.subplots()
    image = axes.imshow(shares, cmap="cividis", vmin=0, vmax=1)
    figure.colorbar(image, label="share of the class")
    axes.set(xlabel="named", ylabel="class", title=title)
    if num_classes <= _NAMED_CLASSES:
        axes.set_xticks(range(num_classes), class_names, rotation=90)
        axes.set_yticks(range(num_classes), class_names)
        _write_counts(axes, counts, shares)
    return _png(figure, None)


@_drawn
def optimisation_history(records: Sequence[TrialRecord], *, metric: str, maximize: bool) -> bytes | None:
    """Return the objective by trial, the best so far, and where pruned trials were; None before any value."""
    complete = [(r.number, r.value) for r in records if r.state == State.COMPLETE and r.value is not None]
    if not complete:
        return None
    figure = _figure(8, 4)
    axes = figure.subplots()
    best = list(accumulate((value for _, value in complete), max if maximize else min))
    axes.step([number for number, _ in complete], best, where="post", color=COLORS[0], label="best so far")
    axes.scatter(*zip(*complete, strict=True), color=COLORS[0], label="complete")
    pruned = [(r.number, s[-1][1]) for r in records if r.state == State.PRUNED and (s := r.series(metric))]
    if pruned:
        axes.scatter(*zip(*pruned, strict=True), color=COLORS[1], marker="x", label="pruned, last value")
    axes.set(xlabel="trial", ylabel=metric, title="optimisation history")
    axes.legend()
    _count_in_whole_numbers(axes)
    return _png(figure, None)


@_drawn
def slices(records: Sequence[TrialRecord], *, metric: str) -> bytes | None:
    """Return the objective of completed trials against each parameter that varies; None before any value."""
    complete = [record for record in records if record.value is not None]
    names = sorted({name for record in complete for name in record.parameters})
    if not names:
        return None
    figure = _figure(3.2 * len(names), 3.4)
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for name, axes in zip(names, panels, strict=True):
        points = [(r.parameters[name], r.value) for r in complete if name in r.parameters]
        _scatter(axes, points)
        axes.set(xlabel=name)
    panels[0].set(ylabel=metric)
    return _png(figure, None)


def _scatter(axes: Axes, points: Sequence[tuple[Any, Any]]) -> None:
    """Numbers on an axis of numbers, logarithmic where they span far, other values side by side."""
    values = [value for value, _ in points]
    if all(isinstance(value, int | float) and not isinstance(value, bool) for value in values):
        axes.scatter(values, [y for _, y in points], color=COLORS[0])
        if min(values) > 0 and max(values) / min(values) >= 5:
            axes.set_xscale("log")
        return
    names = [shown_value(value) for value in values]
    labels = sorted(set(names))
    axes.scatter([labels.index(name) for name in names], [y for _, y in points], color=COLORS[0])
    axes.set_xticks(range(len(labels)), labels)
    axes.set_xlim(-0.5, len(labels) - 0.5)


def _count_in_whole_numbers(*axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    for each in axes:
        each.xaxis.set_major_locator(MaxNLocator(integer=True))


def _write_counts(axes: Axes, counts: Any, shares: Any) -> None:
    for row, column in zip(*counts.nonzero(), strict=True):
        color = "black" if shares[row, column] > 0.5 else "white"
        text = f"{int(counts[row, column])}"
        axes.text(column, row, text, ha="center", va="center", color=color, fontsize=8)


def _figure(width: float, height: float) -> Figure:
    """A figure of its own: pyplot's are global, and this is called from a thread."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _png(figure: Figure, title: str | None) -> bytes:
    if title is not None:
        figure.suptitle(title)
    content = io.BytesIO()
    # Without the version of matplotlib in it, so that equal records make equal files.
    metadata: Mapping[str, Any] = {"Software": None}
    figure.savefig(content, format="png", dpi=DPI, metadata=dict(metadata))
    return content.getvalue()
