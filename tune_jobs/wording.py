"""Formatting of parameters, times, counts and paths for users."""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def shown_parameters(parameters: Mapping[str, Any]) -> str:
    """Return search parameters as one line, with the last part of each dotted name."""
    return "  ".join(f"{name.rpartition('.')[2]} {shown_value(value)}" for name, value in parameters.items())


def printable(name: str) -> str:
    """Return a name that can be written as UTF-8: undecodable bytes of a file name are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def shown_value(value: Any) -> str:
    """Return a parameter's value as short text; floats have three significant digits."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(shown_value(item) for item in value) + "]"
    return str(value)


def duration(seconds: float) -> str:
    """Return a duration in its two largest units: `45 s`, `12 min 5 s`, `3 h 20 min`, `2 d 4 h`."""
    whole = round(seconds)
    for size, unit, part_size, part in (
        (86_400, "d", 3_600, "h"),
        (3_600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if whole >= size:
            rest = whole % size // part_size
            return f"{whole // size} {unit}" + (f" {rest} {part}" if rest else "")
    return f"{whole} s"


def counted(count: int, word: str, plural: str | None = None) -> str:
    """Return a count with its noun: `1 trial`, `2 epochs`; the default plural is `word` with an s."""
    return f"{count:,} {word if count == 1 else plural or f'{word}s'}"


def shown_place(path: Path) -> str:
    """Return a path relative to the current folder if it is inside, else unchanged."""
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def parameter_text(value: Any) -> str:
    """Return a value as YAML and JSON write it, with plain text unquoted: `0.1`, `true`, `null`, `[1, 2]`."""
    return value if isinstance(value, str) else json.dumps(value)


def moment(milliseconds: int) -> str:
    """Return a timestamp, given in milliseconds since the epoch, in UTC with seconds."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def quantity(value: float) -> str:
    """Return a number as short text: `9.5`, `950`, `12,300`, `4.56e+12`."""
    if value >= 1e6:
        return f"{value:.2e}"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def share(part: float, whole: float) -> str:
    """Return `part` as a percentage of `whole`, or `0 %` if `whole` is 0."""
    return f"{100 * part / whole:.0f} %" if whole else "0 %"
