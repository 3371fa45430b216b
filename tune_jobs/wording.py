"""Search parameters as people read them."""

from collections.abc import Mapping
from typing import Any


def shown_parameters(parameters: Mapping[str, Any]) -> str:
    """Return search parameters in one line, by the last word of their names."""
    return "  ".join(f"{name.rpartition('.')[2]} {shown_value(value)}" for name, value in parameters.items())


def printable(name: str) -> str:
    """Return a name that any file and page can hold: a folder's bytes that are no text are escaped."""
    return name.encode("utf-8", "backslashreplace").decode()


def shown_value(value: Any) -> str:
    """Return a parameter's value as short as it stays readable."""
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, tuple):
        return "[" + ", ".join(shown_value(item) for item in value) + "]"
    return str(value)
