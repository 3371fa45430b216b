"""Learning curves: the best few trials in colour, the others grey, with crosses where trials were pruned."""

from collections.abc import Sequence
from typing import Any

from tune_jobs.report.page.plot import (
    BLACK,
    BLUE,
    GREEN,
    ORANGE,
    PALE,
    SKY,
    VERMILLION,
    Figure,
    Trace,
    View,
    layout,
    plain,
    status,
    titled,
)
from tune_jobs.study.pruning import rungs
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.snapshot import Snapshot

# Styles of the best trials, which differ in colour and in dashes.
BEST_LINES = ((BLUE, "solid"), (ORANGE, "dash"), (GREEN, "dot"), (SKY, "dashdot"), (BLACK, "longdash"))
MAX_POINTS = 6_000  # per metric; a page holds many, and a screen is about a thousand points wide
FEW_POINTS = 1_500  # up to this number, each point has a marker
Series = list[tuple[int, float]]


def curves(snapshot: Snapshot) -> Figure | None:
    """Return the figure with a view for each metric, objectives first; None before epoch 1."""
    metrics = shown_metrics(snapshot)
    if not metrics:
        return None
    views = tuple(View(metric, _traces(snapshot, metric), _layout(snapshot, metric)) for metric in metrics)
    described = f"{metrics[0]} by epoch, a line for each of {len(snapshot.counted)} trials"
    return Figure("curves", "Metrics by epoch", described, views, height_px=420)


def shown_metrics(snapshot: Snapshot) -> list[str]:
    """Return the metrics that have curves: the objectives, `train/loss`, then validation metrics."""
    found = {name for r in snapshot.counted for e in r.epochs if e.epoch > 0 for name in e.metrics}
    wanted = [*(objective.metric for objective in snapshot.objectives), "train/loss"]
    others = sorted(name for name in found if name.startswith("val/") and name not in wanted)
    return [name for name in [*wanted, *others] if name in found]


def thinned(series: Sequence[Series]) -> list[Series]:
    """Return the series thinned to about `MAX_POINTS` points in total; both ends of each series stay."""
    stride = -(-sum(map(len, series)) // MAX_POINTS)
    if stride <= 1:
        return list(series)
    return [[*one[: len(one) - 1 : stride], *one[-1:]] for one in series]


def joined(records: Sequence[TrialRecord], series: Sequence[Series]) -> dict[str, list[Any]]:
    """Return `x`, `y` and `customdata` of many lines joined into one trace, with a gap after each."""
    x: list[Any] = []
    y: list[Any] = []
    numbers: list[Any] = []
    for record, one in zip(records, series, strict=True):
        x += [*(epoch for epoch, _ in one), None]
        y += [*(value for _, value in one), None]
        numbers += [*(record.trial for _ in one), None]
    return {"x": x, "y": y, "customdata": numbers}


def _traces(snapshot: Snapshot, metric: str) -> list[Trace]:
    records = [record for record in snapshot.counted if record.series(metric)]
    thin = thinned([record.series(metric) for record in records])
    lines = {record.number: series for record, series in zip(records, thin, strict=True)}
    best = [record for record in snapshot.ranked_alone if record.number in lines][: len(BEST_LINES)]
    coloured = {record.number for record in best}
    others = [record for record in records if record.number not in coloured]
    is_short = sum(map(len, thin)) <= FEW_POINTS
    traces = (
        [_others(others, [lines[record.number] for record in others], is_short=is_short)] if others else []
    )
    pruned = [record for record in records if status(record) == "pruned"]
    if pruned:
        traces.append(_ends(pruned, [lines[record.number][-1] for record in pruned]))
    for record, look in zip(best, BEST_LINES, strict=False):
        traces.append(_best(record, lines[record.number], look, is_short=is_short))
    return traces


def _others(records: Sequence[TrialRecord], series: Sequence[Series], *, is_short: bool) -> Trace:
    return {
        **_line(joined(records, series), is_short=is_short),
        "name": "other trials",
        "line": {"color": PALE, "width": 1.2},
        "marker": {"color": PALE, "size": 4},
    }


def _best(record: TrialRecord, series: Series, look: tuple[str, str], *, is_short: bool) -> Trace:
    color, dash = look
    return {
        **_line(joined([record], [series]), is_short=is_short),
        "name": plain(f"trial {record.label}"),
        "line": {"color": color, "width": 2.4, "dash": dash},
        "marker": {"color": color, "size": 6},
    }


def _line(values: dict[str, list[Any]], *, is_short: bool) -> Trace:
    return {
        "type": "scatter",
        "mode": "lines+markers" if is_short else "lines",
        **values,
        "hovertemplate": "trial %{customdata}, epoch %{x}: %{y:.4f}<extra></extra>",
    }


def _ends(records: Sequence[TrialRecord], ends: Sequence[tuple[int, float]]) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "pruned here",
        "x": [epoch for epoch, _ in ends],
        "y": [value for _, value in ends],
        "customdata": [record.trial for record in records],
        "hovertemplate": "trial %{customdata} was pruned after epoch %{x}: %{y:.4f}<extra></extra>",
        "marker": {
            "symbol": "x-thin-open",
            "size": 8,
            "color": VERMILLION,
            "line": {"width": 1.6, "color": VERMILLION},
        },
    }


def _layout(snapshot: Snapshot, metric: str) -> dict[str, Any]:
    epochs = max(record.last_epoch for record in snapshot.counted)
    total = max(
        (record.total_epochs for record in snapshot.counted if record.config is not None), default=epochs
    )
    found = [rung for rung in rungs(snapshot.pruner, epochs=total) if rung <= epochs]
    lines = [
        {
            "type": "line", "x0": rung, "x1": rung, "yref": "paper", "y0": 0, "y1": 1,
            "line": {"color": "#767676", "width": 1, "dash": "dot"}, "layer": "above",
        }
        for rung in found
    ]  # fmt: skip
    names = [
        {
            "x": rung, "y": 0, "yref": "paper", "yanchor": "bottom", "xanchor": "left", "showarrow": False,
            "text": f"rung {rung}", "font": {"size": 11, "color": "#555555"},
        }
        for rung in found
    ]  # fmt: skip
    x = titled("epoch", range=[min(1, epochs) - 0.02 * epochs - 0.1, epochs * 1.02 + 0.1], tickformat="d")
    return layout(x=x, y=titled(metric), shapes=lines, annotations=names)
