"""Text for invalid fields and values, in a uniform format: `expected ..., got ...`."""

import math
from collections.abc import Iterable, Iterator, Mapping
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError

from selfcon.errors import ConfigError, nearest
from selfcon.values import shown

_NEARLY_BOOL = {"yes": "true", "on": "true", "y": "true", "no": "false", "off": "false", "n": "false"}
_KINDS: Mapping[object, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a finite number",
    str: "text",
    NoneType: "null",
}


def describe(annotation: Any) -> str:
    """Return the expected value of an annotated type, e.g. `a finite number greater than 0`.

    If a pydantic Field has a description, it is returned instead.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        descriptions = [item.description for item in arguments[1:] if getattr(item, "description", None)]
        return str(descriptions[0]) if descriptions else describe(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return str(arguments[0]) if len(arguments) == 1 else f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, UnionType):
        return ", or ".join(describe(argument) for argument in arguments)
    if origin is tuple:
        return f"a list, each item {describe(arguments[0])}"
    return _KINDS[annotation]


def words_of(annotation: Any) -> list[str]:
    """Return the strings of a Literal, also inside a union."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for argument in get_args(annotation) for word in words_of(argument)]


def unknown_name(key: str, expected: str, candidates: Iterable[str]) -> ConfigError:
    """Return the error for a name that is not among the candidates, which are full dotted names."""
    return ConfigError(key, expected, "an unknown name", nearest(key, candidates))


def explain(
    model: type[BaseModel], values: Mapping[str, Any], error: ValidationError, *, prefix: str = ""
) -> ConfigError:
    """Return the first pydantic error of a flat model as a `ConfigError`.

    `values` is the validated mapping, `prefix` the section with its dot.
    """
    field = str(error.errors(include_url=False)[0]["loc"][0])
    annotation = get_type_hints(model, include_extras=True)[field]
    if field not in values:
        return ConfigError(prefix + field, describe(annotation), "nothing")
    return ConfigError(
        prefix + field, describe(annotation), shown(values[field]), _hint(annotation, values[field])
    )


def _hint(annotation: Any, value: object) -> str | None:
    if not isinstance(value, str):
        return None
    if annotation is bool:
        return _NEARLY_BOOL.get(value.lower())
    return nearest(value, words_of(annotation))


def _bounds(metadata: tuple[Any, ...]) -> str:
    """Bounds in the metadata of a pydantic Field; infinity is omitted, because the text says `finite`."""
    limits = dict(limit for field in metadata for limit in _limits(field))
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    wording = {"gt": "greater than", "ge": "of at least", "lt": "below", "le": "of at most"}
    phrases = [f"{words} {limits[name]}" for name, words in wording.items() if name in limits]
    return f" {' and '.join(phrases)}" if phrases else ""


def _limits(field: Any) -> Iterator[tuple[str, float]]:
    for item in getattr(field, "metadata", ()):
        for name in ("gt", "ge", "lt", "le"):
            limit = getattr(item, name, math.inf)
            if math.isfinite(limit):
                yield name, limit
