"""Moments and quantities as the page says them."""

from datetime import UTC, datetime


def moment(milliseconds: int) -> str:
    """Return a moment in UTC, to the second."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def quantity(value: float) -> str:
    """Return a large number as short as it stays readable: `9.5`, `950`, `12,300`, `4.56e+12`."""
    if value >= 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """Return a part in per cent."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
