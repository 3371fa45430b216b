"""Parser of plain YAML scalars by the core schema of YAML 1.2.2 (chapter 10.3)."""

import math
import re
from collections.abc import Mapping

from selfcon.values import MAX_SHOWN

Scalar = str | int | float | bool | None

MAX_WHOLE = 2**53  # doubles, and so JSON and most databases, store every integer up to this one exactly

WORDS: Mapping[str, bool | None] = {
    **dict.fromkeys(("null", "Null", "NULL", "~", ""), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_DECIMAL = re.compile(r"[-+]?[0-9]+")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]+")
_OCTAL = re.compile(r"0o([0-7]+)")
_HEXADECIMAL = re.compile(r"0x([0-9a-fA-F]+)")
_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INFINITY = re.compile(r"([-+]?)\.(inf|Inf|INF)")
_NOT_A_NUMBER = (".nan", ".NaN", ".NAN")


def plain_scalar(text: str) -> Scalar:
    """Return the value of an unquoted scalar: null, a bool, a number, else the text itself.

    Raises `ValueError`, whose arguments are the expected and the actual value, for an integer with leading
    zeros, which YAML 1.1 and 1.2 read as different numbers, and for an integer of more than 2**53 in
    magnitude, which other programs would round.
    """
    if text in WORDS:
        return WORDS[text]
    if _LEADING_ZERO.fullmatch(text):
        raise ValueError("a number without leading zeros", text[:MAX_SHOWN])
    number = _number(text)
    if isinstance(number, int) and abs(number) > MAX_WHOLE:
        raise ValueError("a whole number of at most 2**53", "a larger one")
    return text if number is None else number


def _number(text: str) -> int | float | None:
    if _DECIMAL.fullmatch(text):
        return int(text) if len(text) < 100 else MAX_WHOLE + 1  # int() raises for thousands of digits
    if octal := _OCTAL.fullmatch(text):
        return int(octal[1], 8)
    if hexadecimal := _HEXADECIMAL.fullmatch(text):
        return int(hexadecimal[1], 16)
    if infinity := _INFINITY.fullmatch(text):
        return -math.inf if infinity[1] == "-" else math.inf
    if text in _NOT_A_NUMBER:
        return math.nan
    return float(text) if _FLOAT.fullmatch(text) else None
