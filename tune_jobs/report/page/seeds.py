"""Uncertainty of the best trials: their values over seeds, or their confidence intervals."""

from collections.abc import Sequence
from typing import Any

from tune_jobs.report.noise import interval, noise
from tune_jobs.report.page.plot import BLUE, VERMILLION, Figure, Trace, layout, plain, single, titled
from tune_jobs.report.page.section import Table
from tune_jobs.study.records import TrialRecord
from tune_jobs.study.selection import Candidate
from tune_jobs.study.snapshot import Snapshot

NUM_BEST = 10


def seeds(snapshot: Snapshot) -> Figure | None:
    """Return the figure: the confirmation's candidates over seeds, else the best trials with 95 % intervals.

    None before any trial is complete.
    """
    best = snapshot.ranked_alone[:NUM_BEST]
    if not best:
        return None
    candidates = snapshot.candidates
    traces = _over_seeds(candidates) if candidates else [_with_intervals(snapshot, best)]
    labels = [f"trial {r.label}" for r in ([c.trial for c in candidates] if candidates else best)]
    metric = snapshot.objective.metric
    uncertainty = "values over seeds" if candidates else "95 % intervals"
    described = f"{metric} of {', '.join(labels)}, with {uncertainty}"
    caption = "Values over seeds" if candidates else f"The best {len(best)} with 95 % intervals"
    y = {"type": "category", "autorange": "reversed", "showgrid": False, "automargin": True}
    found = layout(x=titled(metric), y=y, shapes=_band(snapshot))
    height = 110 + 34 * len(labels)
    return single("seeds", caption, described, traces, found, height_px=height)


def seed_table(snapshot: Snapshot) -> Table:
    """Return the candidates of the confirmation; a seed that failed or is still training has no value."""
    columns = ("trial", "mean", "standard deviation", "seeds", "values")
    rows = tuple(
        (
            candidate.trial.label,
            f"{candidate.mean:.4f}",
            "" if candidate.standard_deviation is None else f"{candidate.standard_deviation:.4f}",
            f"{len(candidate.values)} of {candidate.num_seeds}",
            "  ".join(f"{value:.4f}" for value in candidate.values),
        )
        for candidate in snapshot.candidates
    )
    return Table(columns, rows, numbers=frozenset({0, 1, 2, 3}))


def _over_seeds(candidates: Sequence[Candidate]) -> list[Trace]:
    each = [(value, candidate.trial) for candidate in candidates for value in candidate.values]
    own = [candidate.trial for candidate in candidates]
    values = _points([trial for _, trial in each], [value for value, _ in each])
    means = _points(own, [candidate.mean for candidate in candidates])
    deviations = [candidate.standard_deviation or 0.0 for candidate in candidates]
    return [
        {**values, "name": "single seed", "marker": {"color": BLUE, "symbol": "circle-open", "size": 9}},
        {
            **means,
            "name": "mean and standard deviation",
            "marker": {"color": VERMILLION, "symbol": "diamond", "size": 10},
            "error_x": {"type": "data", "array": deviations, "color": VERMILLION, "thickness": 1.6},
        },
    ]


def _with_intervals(snapshot: Snapshot, best: Sequence[TrialRecord]) -> Trace:
    values = [record.value or 0.0 for record in best]
    ends = [interval(snapshot, value) or (value, value) for value in values]
    return {
        **_points(best, values),
        "name": "value",
        "marker": {"color": BLUE, "size": 9},
        "error_x": {
            "type": "data",
            "symmetric": False,
            "array": [high - value for value, (_, high) in zip(values, ends, strict=True)],
            "arrayminus": [value - low for value, (low, _) in zip(values, ends, strict=True)],
            "color": BLUE,
            "thickness": 1.4,
        },
    }


def _points(records: Sequence[TrialRecord], values: Sequence[float]) -> Trace:
    return {
        "type": "scatter",
        "mode": "markers",
        "x": list(values),
        "y": [plain(f"trial {record.label}") for record in records],
        "customdata": [record.trial for record in records],
        "hovertemplate": "%{y}: %{x:.4f}<extra></extra>",
    }


def _band(snapshot: Snapshot) -> list[dict[str, Any]]:
    """The range of values that are within noise of the best, for either direction of the objective."""
    bound, best = noise(snapshot), snapshot.winner
    if bound is None or best is None or best.value is None:
        return []
    at = snapshot.candidates[0].mean if snapshot.candidates else best.value
    ends = (at - bound, at) if snapshot.maximize else (at, at + bound)
    return [
        {
            "type": "rect", "x0": ends[0], "x1": ends[1], "yref": "paper", "y0": 0, "y1": 1, "layer": "below",
            "fillcolor": "#dfe9f3", "line": {"width": 0},
        }
    ]  # fmt: skip
