"""Overrides on the command line: `--set KEY=VALUE` replaces one key of the search-space file."""

import re
from collections.abc import Sequence
from dataclasses import replace

from selfcon.config import FIELD_NAMES
from selfcon.values import shown
from tune_jobs.errors import BadInputError
from tune_jobs.space.yaml_file import Node, parse

_KEY = re.compile(r"[A-Za-z_][\w-]*(\.[\w-]+)*", re.ASCII)
_HOLDS_FIELDS = ("space", "when")  # below these keys, a dotted field name is a single key


def apply_overrides(root: Node, overrides: Sequence[str]) -> Node:
    """Return the file's value with each `KEY=VALUE` applied in order; VALUE is YAML.

    KEY is the path as errors print it, e.g. `train.optim.epochs` or `space.loss.temperature.high`. An
    overridden value has the position `--set KEY=VALUE`. Raises `BadInputError`.
    """
    for override in overrides:
        key, equals, text = override.partition("=")
        source = f"--set {shown(override) if not override.isprintable() else override}"
        if not equals or not _KEY.fullmatch(key):
            raise BadInputError(f"{source}: expected KEY=VALUE, such as train.optim.epochs=4")
        root = _replaced(root, _parts(key), parse(text, source, key=key, positions=False))
    return root


def _parts(key: str) -> list[str]:
    """Return the keys of a dotted path, from the top level down."""
    parts: list[str] = []
    rest = key
    while rest:
        part = _first_field(rest) if parts and parts[-1] in _HOLDS_FIELDS else rest.split(".")[0]
        parts.append(part)
        rest = rest[len(part) + 1 :]
    return parts


def _first_field(rest: str) -> str:
    """Return the field name at the start of a path, or the whole path, which is then refused as unknown."""
    fields = [name for name in FIELD_NAMES if f"{rest}.".startswith(f"{name}.")]
    return max(fields, key=len, default=rest)


def _replaced(node: Node, parts: Sequence[str], value: Node) -> Node:
    """Return the node with `value` at the end of a path of keys."""
    if not parts:
        return value
    if not isinstance(node.value, dict):
        owner = node.key or "the file"
        raise BadInputError(
            f"{value.place}: {value.key}: expected a mapping at {owner} to set {parts[0]} in, "
            f"got {shown(node.plain())}"
        )
    path = f"{node.key}.{parts[0]}" if node.key else parts[0]
    child = node.value.get(parts[0], Node({}, value.place, path, value.place))
    return replace(node, value={**node.value, parts[0]: _replaced(child, parts[1:], value)})
