"""Parameter importance as a bar chart."""

from collections.abc import Mapping

from tune_jobs.report.page.plot import BLUE, Figure, layout, plain, single, titled


def importance_bars(importance: Mapping[str, float]) -> Figure | None:
    """Return the share of each parameter as bars, the largest on top; None without importances."""
    if not importance:
        return None
    names = list(importance)
    trace = {
        "type": "bar",
        "orientation": "h",
        "x": list(importance.values()),
        "y": [plain(name) for name in names],
        "text": [f"{share:.2f}" for share in importance.values()],
        "textposition": "outside",
        "cliponaxis": False,
        "marker": {"color": BLUE},
        "hovertemplate": "%{y}: %{x:.2f}<extra></extra>",
    }
    found = layout(
        x=titled("share of the importance", range=[0, max(importance.values()) * 1.15], tickformat=".1f"),
        y={"autorange": "reversed", "type": "category", "showgrid": False, "automargin": True},
    )
    described = ", ".join(f"{name} {share:.2f}" for name, share in importance.items())
    height = 90 + 34 * len(names)
    return single("importance", "Importance of each parameter", described, [trace], found, height_px=height)
