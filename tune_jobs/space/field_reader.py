"""Reader of training fields in a search-space file."""

from collections.abc import Collection
from typing import Any

from selfcon.config import FIELD_NAMES, SECTIONS, TrainConfig, parse_field
from selfcon.errors import ConfigError, nearest
from tune_jobs.space.yaml_file import Node


def read_value(name: str, node: Node) -> Any:
    """Return the value of a field as `TrainConfig` stores it. Raises `BadInputError` with its position."""
    try:
        return parse_field(name, node.plain())
    except ConfigError as error:
        node.refuse_with(error)


def read_train(train: Node | None) -> dict[str, Any]:
    """Return the fixed values of `train` by dotted name, each validated alone. Raises `BadInputError`."""
    fixed: dict[str, Any] = {}
    for section, node in (train.mapping() if train else {}).items():
        if section in SECTIONS:
            fixed |= _read_section(section, node)
        elif section in TrainConfig.model_fields:
            fixed[section] = read_value(section, node)
        elif section in FIELD_NAMES:
            outer, inner = section.split(".")
            node.refuse_key("sections with fields", "a dotted name", hint=f"{outer}: {{{inner}: ...}}")
        else:
            node.refuse_unknown(section, TrainConfig.model_fields)
    return fixed


def train_node(root: Node, name: str) -> Node | None:
    """Return the node of a dotted field in `train`, or None if the file does not set it there."""
    node = root.mapping().get("train")
    for part in name.split("."):
        node = node.mapping().get(part) if node else None
    return node


def refuse_unless_searched(name: str, node: Node, searched: Collection[str]) -> None:
    """Raise `BadInputError` for the key of `node` unless it names a search parameter."""
    if name not in searched:
        got = "a field that is not searched" if name in FIELD_NAMES else "an unknown name"
        node.refuse_key("a parameter of this space", got, hint=nearest(name, searched))


def _read_section(section: str, node: Node) -> dict[str, Any]:
    fixed: dict[str, Any] = {}
    for field, item in node.mapping().items():
        name = f"{section}.{field}"
        if name not in FIELD_NAMES:
            item.refuse_key("the name of a training field", hint=nearest(name, FIELD_NAMES))
        fixed[name] = read_value(name, item)
    return fixed
