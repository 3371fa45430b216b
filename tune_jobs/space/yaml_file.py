"""Reader of a strict subset of YAML 1.2 that keeps the position of every value.

The reader rejects tags, anchors, aliases, merge keys, directives, duplicate keys, keys that are not words, a
second document, and files that are too large or too deeply nested. Plain scalars follow YAML 1.2
(`yaml_scalars.py`): `1e-3` is a number, `0o17` is 15, and `yes`, `on`, `12:30` and `1_000` are text.
"""

import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from selfcon.errors import ConfigError, nearest
from selfcon.values import shown
from tune_jobs.errors import BadInputError
from tune_jobs.space.yaml_scalars import WORDS, Scalar, plain_scalar

MAX_BYTES = 64 * 1024  # a search-space file has one or two pages; PyYAML reads about 100 KB/s
MAX_DEPTH = 12  # the deepest valid value, an item of an alternative in a branch's `when`, is at level 9

_TAG_PREFIX = "tag:yaml.org,2002:"  # written !!
_KEY = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
# Line breaks in YAML 1.1, and therefore in PyYAML, but not in YAML 1.2 and in editors.
_OLD_LINE_BREAKS = re.compile("[\x85\u2028\u2029]")


@dataclass(frozen=True)
class Node:
    """Value of a YAML file with its position and its dotted key.

    `place` is FILE:LINE:COLUMN of the value, `key` is the dotted path of its keys (a list item has the key of
    the list), and `key_place` is the position of its last key.
    """

    value: "Scalar | list[Node] | dict[str, Node]"
    place: str
    key: str
    key_place: str

    def plain(self) -> Any:
        """Return the value without positions, as dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def mapping(self, *, known: Collection[str] | None = None) -> "dict[str, Node]":
        """Return the items of a mapping. Raises `BadInputError` for another type or an unknown key."""
        names = f" with {', '.join(known)}" if known else ""
        items = self.value if isinstance(self.value, dict) else self.refuse(f"a mapping{names}")
        for name, item in items.items():
            if known is not None and name not in known:
                item.refuse_unknown(name, known)
        return items

    def sequence(self, expected: str = "a list") -> "list[Node]":
        """Return the items of a list. Raises `BadInputError` for another type."""
        return self.value if isinstance(self.value, list) else self.refuse(expected)

    def text(self) -> str:
        """Return the text. Raises `BadInputError` for another type."""
        return self.value if isinstance(self.value, str) else self.refuse("text")

    def refuse(self, expected: str, got: str | None = None, *, hint: str | None = None) -> NoReturn:
        """Raise `BadInputError` at the position of this value."""
        got = shown(self.plain()) if got is None else got
        raise BadInputError(f"{self.place}: {ConfigError(self.key or 'the file', expected, got, hint)}")

    def refuse_key(self, expected: str, got: str = "an unknown name", *, hint: str | None = None) -> NoReturn:
        """Raise `BadInputError` at the position of this value's key."""
        raise BadInputError(f"{self.key_place}: {ConfigError(self.key, expected, got, hint)}")

    def refuse_unknown(self, name: str, known: Collection[str]) -> NoReturn:
        """Raise `BadInputError` for the key `name` of this value, which is none of the `known` ones."""
        self.refuse_key(f"one of {', '.join(known)}", hint=nearest(name, known))

    def refuse_with(self, error: ConfigError) -> NoReturn:
        """Raise `BadInputError` with the contents of `error` at the position of this value."""
        self.refuse(error.expected, error.got, hint=error.hint)


def read_file(path: Path) -> tuple[str, Node]:
    """Return the text of a YAML file and its top-level node. Raises `BadInputError`."""
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        near = nearest(path.name, _neighbouring_names(path))
        hint = f" (did you mean {path.with_name(near)}?)" if near else ""
        raise BadInputError(f"{path}: expected a readable file, got: {reason}{hint}") from None
    if len(content) > MAX_BYTES:
        raise BadInputError(f"{path}:1:1: expected a file of at most {MAX_BYTES} bytes, got {len(content)}")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = _place(str(path), content[: error.start].decode("utf-8", "replace"))
        raise BadInputError(
            f"{place}: expected text in UTF-8, got the byte {content[error.start]:#04x}"
        ) from None
    return text, parse(text, str(path))


def _neighbouring_names(path: Path) -> list[str]:
    return [other.name for other in path.parent.glob("*.y*ml")]


def parse(text: str, source: str, *, key: str = "", positions: bool = True) -> Node:
    """Return the top-level node of a YAML text. Raises `BadInputError`.

    `source` names the text in errors, and `key` is the dotted key of the value. Without `positions`, every
    position is `source` alone.
    """
    found = _OLD_LINE_BREAKS.search(text)
    if found:
        place = _place(source, text[: found.start()]) if positions else source
        raise BadInputError(f"{place}: expected ordinary line breaks, got {found[0]!a}")
    try:
        reader = _Reader(text, source, positions)
    except yaml.reader.ReaderError as error:
        place = _place(source, text[: error.position]) if positions else source
        raise BadInputError(f"{place}: expected printable text, got {text[error.position]!a}") from None
    return reader.document(key)


def _place(source: str, before: str) -> str:
    """Return FILE:LINE:COLUMN of the position that follows the text `before`."""
    lines = before.split("\n")
    return f"{source}:{len(lines)}:{len(lines[-1]) + 1}"


class _Reader:
    """Composes nodes from PyYAML's events, which keep tags, anchors and quotes, unlike PyYAML's nodes."""

    def __init__(self, text: str, source: str, positions: bool) -> None:
        self._source, self._positions = source, positions
        self._loader = yaml.BaseLoader(text)

    def document(self, key: str) -> Node:
        self._next()  # start of the stream
        start = self._next()
        if isinstance(start, yaml.StreamEndEvent):
            return Node(None, self._at(start.start_mark), key, self._at(start.start_mark))
        if start.version or start.tags:
            self._fail(start.start_mark, "", "a document without directives", "a line that begins with %")
        event = self._next()
        node = self._node(event, key, self._at(event.start_mark), depth=1)
        self._next()  # end of the document
        following = self._next()
        if not isinstance(following, yaml.StreamEndEvent):
            self._fail(following.start_mark, "", "one document", "a second one")
        return node

    def _next(self) -> Any:
        try:
            return self._loader.get_event()
        except yaml.MarkedYAMLError as error:
            start = error.context_mark
            context = f" {error.context} from {start.line + 1}:{start.column + 1}" if start else ""
            self._fail(error.problem_mark, "", "valid YAML", f"a syntax error: {error.problem}{context}")
        except (ValueError, OverflowError):  # chr() in PyYAML, for an escape beyond Unicode
            self._fail(self._loader.get_mark(), "", "the escape of a Unicode character", "an invalid one")

    def _fail(self, mark: Any, key: str, expected: str, got: str) -> NoReturn:
        about = f"{key}: " if key else ""
        raise BadInputError(f"{self._at(mark)}: {about}expected {expected}, got {got}") from None

    def _at(self, mark: Any) -> str:
        return f"{self._source}:{mark.line + 1}:{mark.column + 1}" if self._positions else self._source

    def _node(self, event: Any, key: str, key_place: str, *, depth: int) -> Node:
        """Return the node that begins with `event`."""
        mark = event.start_mark
        if isinstance(event, yaml.AliasEvent):
            self._fail(mark, key, "a value without aliases", shown(f"*{event.anchor}"))
        if event.anchor is not None:
            self._fail(mark, key, "a value without anchors", shown(f"&{event.anchor}"))
        if event.tag is not None:
            self._fail(mark, key, "a value without a tag", shown(event.tag.replace(_TAG_PREFIX, "!!")))
        if depth > MAX_DEPTH:
            self._fail(mark, key, f"at most {MAX_DEPTH} levels of nesting", "more")
        if isinstance(event, yaml.MappingStartEvent):
            return Node(self._mapping(key, depth), self._at(mark), key, key_place)
        if isinstance(event, yaml.SequenceStartEvent):
            return Node(self._sequence(key, depth), self._at(mark), key, key_place)
        return Node(self._scalar(event, key), self._at(mark), key, key_place)

    def _sequence(self, key: str, depth: int) -> list[Node]:
        nodes = []
        while not isinstance(event := self._next(), yaml.SequenceEndEvent):
            nodes.append(self._node(event, key, self._at(event.start_mark), depth=depth + 1))
        return nodes

    def _mapping(self, key: str, depth: int) -> dict[str, Node]:
        nodes: dict[str, Node] = {}
        while not isinstance(event := self._next(), yaml.MappingEndEvent):
            name, place = self._key(event, key), self._at(event.start_mark)
            path = f"{key}.{name}" if key else name
            if name in nodes:
                first = nodes[name].key_place
                self._fail(event.start_mark, path, "each key once", f"a duplicate (first at {first})")
            nodes[name] = self._node(self._next(), path, place, depth=depth + 1)
        return nodes

    def _key(self, event: Any, owner: str) -> str:
        mark = event.start_mark
        if not isinstance(event, yaml.ScalarEvent):
            self._fail(mark, owner, "a word as a key", "something else")
        if event.anchor is not None or event.tag is not None:
            self._fail(mark, owner, "a key without anchors and tags", shown(event.value))
        if event.style is None and event.value == "<<":
            self._fail(mark, owner, "explicit keys", "the merge key <<")
        if not _KEY.fullmatch(event.value) or (event.style is None and event.value in WORDS):
            self._fail(mark, owner, "a word as a key", shown(event.value))
        return str(event.value)

    def _scalar(self, event: Any, key: str) -> Scalar:
        text, mark = event.value, event.start_mark
        if event.style is not None:
            if any("\ud800" <= character <= "\udfff" for character in text):
                self._fail(mark, key, "valid Unicode characters", "half of a surrogate pair")
            return str(text)
        try:
            return plain_scalar(text)
        except ValueError as error:
            self._fail(mark, key, *error.args)
