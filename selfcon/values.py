"""Configuration values as text, spelled as the user writes them."""

import re
from collections.abc import Mapping

MAX_SHOWN = 120  # characters; longer values are truncated, as an error is one line

_BARE_WORD = re.compile(r"[A-Za-z_/~.][\w./+@-]*")

_READ_AS_SOMETHING_ELSE = ("true", "false", "null", "~")


def shown(value: object) -> str:
    """Return a value as the user would write it, in one line of at most `MAX_SHOWN` characters."""
    text = _written(value)
    return text if len(text) <= MAX_SHOWN else f"{text[: MAX_SHOWN - 3]}..."


def _written(value: object) -> str:
    if isinstance(value, tuple | list):
        return "[" + ", ".join(_written(item) for item in value) + "]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(item)}" for key, item in value.items()) + "}"
    if isinstance(value, bool) or value is None:
        return {True: "true", False: "false", None: "null"}[value]
    if isinstance(value, str):
        bare = _BARE_WORD.fullmatch(value) and value.lower() not in _READ_AS_SOMETHING_ELSE
        return value if bare else ascii(value) if not value.isprintable() else f"'{value}'"
    return str(value)
