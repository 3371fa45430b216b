from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.errors import BadInputError
from tune_jobs.space.yaml_file import MAX_BYTES, MAX_DEPTH, Node, parse, read_file

TEXT = """\
# a comment
name: example
train:
  optim: {epochs: 8, learning_rate: 1e-3}
space:
  loss.temperature:
    - 0.1
    - [a, "017"]
"""

REFUSED: list[tuple[str, str]] = [
    ("a: [1\n", "f:2:1: expected valid YAML, got a syntax error: expected ',' or ']', but got '<stream end>' "
                "while parsing a flow sequence from 1:4"),
    ("a: b: c\n", "f:1:5: expected valid YAML, got a syntax error: mapping values are not allowed here"),
    ("a: 1\nb\n", "f:3:1: expected valid YAML, got a syntax error: could not find expected ':' "
                  "while scanning a simple key from 2:1"),
    ("a: %b\n", "f:1:4: expected valid YAML, got a syntax error: "
                "found character '%' that cannot start any token"),
    ("\ta: 1\n", "f:1:1: expected valid YAML, got a syntax error: "
                  "found character '\\t' that cannot start any token"),
    ('a: "\\q"\n', "f:1:6: expected valid YAML, got a syntax error: found unknown escape character 'q' "
                   "while scanning a double-quoted scalar from 1:4"),
    ('a: "\\UFFFFFFFF"\n', "f:1:7: expected the escape of a Unicode character, got an invalid one"),
    ('a: "\\uD800"\n', "f:1:4: a: expected valid Unicode characters, got half of a surrogate pair"),
    ("a: b\x07\n", "f:1:5: expected printable text, got '\\x07'"),
    ("a: 1\nb: c\u2028d\n", "f:2:5: expected ordinary line breaks, got '\\u2028'"),
    ("a: b\x85c: d\n", "f:1:5: expected ordinary line breaks, got '\\x85'"),
    ("a: &x 1\n", "f:1:4: a: expected a value without anchors, got '&x'"),
    ("a: *x\n", "f:1:4: a: expected a value without aliases, got '*x'"),
    ("a: !!int 1\n", "f:1:4: a: expected a value without a tag, got '!!int'"),
    ("a: ! b\n", "f:1:4: a: expected a value without a tag, got '!'"),
    ("a: !!python/object/apply:os.system [ls]\n",
     "f:1:4: a: expected a value without a tag, got '!!python/object/apply:os.system'"),
    ("&x a: 1\n", "f:1:1: expected a key without anchors and tags, got a"),
    ("!!str a: 1\n", "f:1:1: expected a key without anchors and tags, got a"),
    ("a:\n  <<: {b: 1}\n", "f:2:3: a: expected explicit keys, got the merge key <<"),
    ("a: 1\nb: 2\na: 3\n", "f:3:1: a: expected each key once, got a duplicate (first at f:1:1)"),
    ("a: {b: 1, 'b': 2}\n", "f:1:11: a.b: expected each key once, got a duplicate (first at f:1:5)"),
    ("1: a\n", "f:1:1: expected a word as a key, got '1'"),
    ("true: a\n", "f:1:1: expected a word as a key, got 'true'"),
    ("?\n: a\n", "f:1:2: expected a word as a key, got ''"),
    ("a b: 1\n", "f:1:1: expected a word as a key, got 'a b'"),
    ("ä: 1\n", "f:1:1: expected a word as a key, got 'ä'"),
    ("? [a]\n: 1\n", "f:1:3: expected a word as a key, got something else"),
    ("a: 1\n---\nb: 2\n", "f:2:1: expected one document, got a second one"),
    ("%YAML 1.1\n---\na\n", "f:1:1: expected a document without directives, got a line that begins with %"),
    ("%TAG ! x\n---\na\n", "f:1:1: expected a document without directives, got a line that begins with %"),
    ("a: 017\n", "f:1:4: a: expected a number without leading zeros, got 017"),
    ("a: [1, 9007199254740993]\n", "f:1:8: a: expected a whole number of at most 2**53, got a larger one"),
    ("a: " + "[" * MAX_DEPTH + "\n", f"f:1:15: a: expected at most {MAX_DEPTH} levels of nesting, got more"),
    ("[" * 60_000, "f:1:13: expected at most 12 levels of nesting, got more"),
]  # fmt: skip


def test_values_are_read_as_plain_python_objects() -> None:
    assert parse(TEXT, "f").plain() == {
        "name": "example",
        "train": {"optim": {"epochs": 8, "learning_rate": 0.001}},
        "space": {"loss.temperature": [0.1, ["a", "017"]]},
    }


@pytest.mark.parametrize(
    ("path", "place", "key", "key_place"),
    [
        ([], "f:2:1", "", "f:2:1"),
        (["name"], "f:2:7", "name", "f:2:1"),
        (["train", "optim"], "f:4:10", "train.optim", "f:4:3"),
        (["train", "optim", "learning_rate"], "f:4:37", "train.optim.learning_rate", "f:4:22"),
        (["space", "loss.temperature"], "f:7:5", "space.loss.temperature", "f:6:3"),
        (["space", "loss.temperature", 0], "f:7:7", "space.loss.temperature", "f:7:7"),
        (["space", "loss.temperature", 1, 1], "f:8:11", "space.loss.temperature", "f:8:11"),
    ],
)
def test_every_value_has_its_position_and_key(path: list[Any], place: str, key: str, key_place: str) -> None:
    node: Any = parse(TEXT, "f")
    for step in path:
        node = node.value[step]
    assert (node.place, node.key, node.key_place) == (place, key, key_place)


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_ambiguous_or_unsafe_yaml_is_refused_with_its_position(text: str, message: str) -> None:
    with pytest.raises(BadInputError) as refused:
        parse(text, "f")
    assert str(refused.value) == message


@given(st.text(alphabet=" \n\t-:?[]{}#&*!|>'\"%@`,ab10.~\\xuU<é\ufeff", max_size=40) | st.text(max_size=40))
def test_any_text_is_read_or_refused_with_a_one_line_error(text: str) -> None:
    found = _node_or_error(text)
    assert isinstance(found, Node) or (found.startswith("f:") and len(found.splitlines()) == 1)


def _node_or_error(text: str) -> Node | str:
    try:
        return parse(text, "f")
    except BadInputError as refused:
        return str(refused)


@given(st.recursive(st.text(max_size=8), lambda inner: st.lists(inner, max_size=3), max_leaves=8))
def test_quoted_texts_are_read_unchanged(value: Any) -> None:
    def quoted(item: Any) -> str:
        if isinstance(item, list):
            return "[" + ", ".join(quoted(part) for part in item) + "]"
        return '"' + "".join(f"\\U{ord(character):08x}" for character in item) + '"'

    assert parse(quoted(value), "f").plain() == value


def test_an_empty_text_is_null() -> None:
    assert parse("# nothing\n", "f") == Node(None, "f:2:1", "", "f:2:1")


def test_windows_line_breaks_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: 1\r\nb: two\r\n")
    _, node = read_file(path)
    assert node.plain() == {"a": 1, "b": "two"}
    assert node.mapping()["a"].key_place == f"{path}:1:1"


def test_without_positions_every_position_is_the_source() -> None:
    node = parse("{low: [1]}", "--set a={low: [1]}", key="a", positions=False)
    assert node.mapping()["low"].sequence()[0].place == "--set a={low: [1]}"
    with pytest.raises(BadInputError, match=r"^--set a=\[: expected valid YAML, got a syntax error: "):
        parse("[", "--set a=[", key="a", positions=False)


def test_the_text_of_a_file_is_returned_unchanged(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_text(TEXT)
    assert read_file(path)[0] == TEXT


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff\n", ":1:4: expected text in UTF-8, got the byte 0xff"),
        (b"a: 1\nb: \xc3\xa4\xe4\n", ":2:5: expected text in UTF-8, got the byte 0xe4"),
        (b"#" * (MAX_BYTES + 1), f":1:1: expected a file of at most {MAX_BYTES} bytes, got {MAX_BYTES + 1}"),
    ],
)
def test_invalid_or_oversized_content_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(content)
    with pytest.raises(BadInputError) as refused:
        read_file(path)
    assert str(refused.value) == f"{path}{message}"


def test_a_file_of_the_maximum_size_is_read(tmp_path: Path) -> None:
    path = tmp_path / "space.yaml"
    path.write_bytes(b"#" * (MAX_BYTES - 1) + b"\n")
    assert read_file(path)[1].plain() is None


def test_a_missing_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    (tmp_path / "exit_position.yaml").touch()
    with pytest.raises(BadInputError) as refused:
        read_file(tmp_path / "exit_postion.yaml")
    expected = "expected a readable file, got: no such file or directory"
    hint = f"(did you mean {tmp_path / 'exit_position.yaml'}?)"
    assert str(refused.value) == f"{tmp_path / 'exit_postion.yaml'}: {expected} {hint}"


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadInputError, match=r"expected a readable file, got: is a directory$"):
        read_file(tmp_path)


def test_a_node_of_the_wrong_type_is_refused_with_its_position() -> None:
    items = parse("a: 1\nb: {c: 2, d: 3}\n", "f").mapping()
    with pytest.raises(BadInputError, match=r"^f:1:4: a: expected a mapping with c, e, got 1$"):
        items["a"].mapping(known=("c", "e"))
    with pytest.raises(BadInputError, match=r"^f:1:4: a: expected a list, got 1$"):
        items["a"].sequence()
    with pytest.raises(BadInputError, match=r"^f:1:4: a: expected text, got 1$"):
        items["a"].text()
    with pytest.raises(BadInputError, match=r"^f:2:11: b\.d: expected one of c, e, got an unknown name$"):
        items["b"].mapping(known=("c", "e"))
