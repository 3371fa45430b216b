"""Timeline: a row for each trial, a bar for each attempt, and the launches at the top."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from tune_jobs.report.page import spans
from tune_jobs.report.page.plot import (
    BLACK,
    BLUE,
    GREEN,
    GREY,
    ORANGE,
    OVER_COLOR,
    SKY,
    VERMILLION,
    Figure,
    Trace,
    layout,
    plain,
    single,
    titled,
)
from tune_jobs.report.page.spans import AttemptSpan
from tune_jobs.study.snapshot import Snapshot
from tune_jobs.wording import duration

# A pattern in addition to each colour, so that either is sufficient.
LOOKS = {
    spans.COMPLETE: (BLUE, ""),
    spans.PRUNED: (VERMILLION, "/"),
    spans.FAILED: (BLACK, "x"),
    spans.PREEMPTED: (SKY, "."),
    spans.ATTEMPT_FAILED: (ORANGE, "-"),
    spans.STOPPED: (GREY, "\\"),
    spans.RUNNING: (GREEN, "+"),
}
ROW_PX, MIN_PX, MAX_PX, BAND_PX = 17, 180, 900, 46
MAX_TICKS = 2_000  # more epochs cannot be distinguished


def timeline(snapshot: Snapshot) -> Figure | None:
    """Return the figure; None before the first attempt."""
    found = spans.attempt_spans(snapshot)
    if not found:
        return None
    rows = list(dict.fromkeys(span.record.label for span in found))
    height = min(MAX_PX, max(MIN_PX, ROW_PX * len(rows))) + BAND_PX + 90
    data = [_bars(ending, [span for span in found if span.ending == ending]) for ending in LOOKS]
    data = [trace for trace in data if trace["x"]]
    data += [_launches(snapshot), *_epoch_ticks(found)]
    described = f"{len(found)} attempts of {len(rows)} trials over {len(snapshot.launches)} launches, by time"
    return single(
        "timeline", "Attempts and launches", described, data, _layout(rows, height), height_px=height
    )


def _bars(ending: str, group: Sequence[AttemptSpan]) -> Trace:
    color, pattern = LOOKS[ending]
    return {
        "type": "bar", "orientation": "h", "name": ending,
        "base": [_moment(span.start_ms) for span in group],
        "x": [max(1, span.end_ms - span.start_ms) for span in group],
        "y": [span.record.label for span in group],
        "customdata": [span.record.trial for span in group],
        "text": [_hover(span) for span in group], "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "marker": {
            "color": color, "line": {"width": 0},
            "pattern": {"shape": pattern, **OVER_COLOR, "solidity": 0.3},
        },
    }  # fmt: skip


def _hover(span: AttemptSpan) -> str:
    num_epochs = sum(epoch.attempt == span.attempt and epoch.epoch > 0 for epoch in span.record.epochs)
    took = duration((span.end_ms - span.start_ms) / 1000)
    recorded = next((end for end in span.record.attempt_ends if end.attempt == span.attempt), None)
    why = "" if recorded is None else f" ({recorded.reason})"
    epochs = f"{num_epochs} epoch{'' if num_epochs == 1 else 's'}"
    return plain(f"trial {span.record.label}, attempt {span.attempt}: {span.ending}{why}, {epochs} in {took}")


def _launches(snapshot: Snapshot) -> Trace:
    found = spans.launch_spans(snapshot)
    spent = [duration((end - start) / 1000) for start, end in found]
    return {
        "type": "bar", "orientation": "h", "name": "launches", "yaxis": "y2", "showlegend": False,
        "base": [_moment(start) for start, _ in found],
        "x": [max(1, end - start) for start, end in found],
        "y": ["launches"] * len(found),
        "text": [str(place + 1) for place in range(len(found))], "textposition": "inside",
        "insidetextanchor": "middle", "textfont": {"color": "white"},
        "hovertemplate": [f"launch {n}: {took}<extra></extra>" for n, took in enumerate(spent, start=1)],
        "marker": {"color": "#555555", "line": {"width": 1, "color": "white"}},
    }  # fmt: skip


def _epoch_ticks(found: Sequence[AttemptSpan]) -> list[Trace]:
    """A white tick at the end of each epoch."""
    ticks = [
        (epoch.timestamp_ms, span.record.label)
        for span in found
        for epoch in span.record.epochs
        if epoch.attempt == span.attempt and epoch.epoch > 0
    ]
    if not ticks or len(ticks) > MAX_TICKS:
        return []
    return [
        {
            "type": "scatter", "mode": "markers", "hoverinfo": "skip", "showlegend": False,
            "x": [_moment(moment) for moment, _ in ticks], "y": [label for _, label in ticks],
            "marker": {
                "symbol": "line-ns-open", "size": 7, "color": "white",
                "line": {"width": 1.2, "color": "white"},
            },
        }
    ]  # fmt: skip


def _moment(milliseconds: int) -> str:
    """A moment in UTC as a date string for plotly.js, which has no time zones."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3]


def _layout(rows: Sequence[str], height_px: int) -> dict[str, Any]:
    band = BAND_PX / height_px
    y = titled("trial", type="category", categoryorder="array", categoryarray=list(rows), showgrid=False)
    y["automargin"] = True
    y |= {"autorange": "reversed", "domain": [0, 1 - 1.3 * band]}
    y |= {"dtick": 1} if len(rows) <= MAX_PX // ROW_PX else {}
    launches = {
        "domain": [1 - band, 1],
        "type": "category",
        "showgrid": False,
        "automargin": True,
        "fixedrange": True,
    }
    return layout(x=titled("time (UTC)", type="date"), y=y, yaxis2=launches, barmode="overlay", bargap=0.25)
