"""Fields and values in words, so that every refusal reads alike: `expected ..., got ...`."""

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
    """Return what a value of an annotated type must be, e.g. `a finite number greater than 0`.

    The description of a pydantic Field, where there is one, says it instead of type and bounds.
    """
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        own_words = [item.description for item in arguments[1:] if getattr(item, "description", None)]
        return str(own_words[0]) if own_words else describe(arguments[0]) + _bounds(arguments[1:])
    if origin is Literal:
        return str(arguments[0]) if len(arguments) == 1 else f"one of {', '.join(map(str, arguments))}"
    if origin in (Union, UnionType):
        return ", or ".join(describe(argument) for argument in arguments)
    if origin is tuple:
        return f"a list, each item {describe(arguments[0])}"
    return _KINDS[annotation]


def words_of(annotation: Any) -> list[str]:
    """Return the words a value may be: the strings of a Literal, also inside a union."""
    if get_origin(annotation) is Literal:
        return list(get_args(annotation))
    return [word for argument in get_args(annotation) for word in words_of(argument)]


def unknown_name(key: str, expected: str, candidates: Iterable[str]) -> ConfigError:
    """Return the refusal of a name that is none of the candidates, which are whole dotted names."""
    return ConfigError(key, expected, "an unknown name", nearest(key, candidates))


def explain(
    model: type[BaseModel], values: Mapping[str, Any], error: ValidationError, *, prefix: str = ""
) -> ConfigError:
    """Return pydantic's first complaint about a flat model as our one line; all names are known.

    `values` is what was validated, `prefix` the section with its dot.
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
    """The bounds in pydantic's Field metadata; infinity is none, as a number is said to be finite."""
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
