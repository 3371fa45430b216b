from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, Field, ValidationError

from selfcon.errors import nearest
from selfcon.validation import describe, explain, words_of
from selfcon.values import MAX_SHOWN, shown


class Example(BaseModel):
    """Model with a required field, and a field with a description."""

    size: Annotated[int, Field(ge=1, le=9)]
    colour: Annotated[str, Field(pattern="^(red|blue)$", description="a colour we have")] = "red"


@pytest.mark.parametrize(
    ("annotation", "words"),
    [
        (bool, "true or false"),
        (Annotated[int, Field(ge=1)], "a whole number of at least 1"),
        (Annotated[int, Field(ge=1, le=2)], "a whole number from 1 to 2"),
        (Annotated[float, Field(gt=0, lt=float("inf"))], "a finite number greater than 0"),
        (Annotated[float, Field(ge=0, lt=1)], "a finite number of at least 0 and below 1"),
        (Literal["all"], "all"),
        (Literal["all", "backbone"], "one of all, backbone"),
        (Literal["auto"] | int | None, "auto, or a whole number, or null"),
        (tuple[Annotated[int, Field(le=3)], ...], "a list, each item a whole number of at most 3"),
        (Annotated[str, Field(description="a colour we have")], "a colour we have"),
    ],
)
def test_annotations_are_described(annotation: Any, words: str) -> None:
    assert describe(annotation) == words


def test_words_of_searches_unions() -> None:
    assert words_of(Literal["fc", "small"] | int) == ["fc", "small"]
    assert words_of(int) == []


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (True, "true"),
        (None, "null"),
        (1e-3, "0.001"),
        ((1, 2), "[1, 2]"),
        ([["a"], None], "[[a], null]"),
        ({"low": 1, "log": False}, "{low: 1, log: false}"),
        ("resnet18", "resnet18"),
        ("/no/such-folder", "/no/such-folder"),
        ("0.1", "'0.1'"),
        ("true", "'true'"),
        ("", "''"),
        ("two words", "'two words'"),
        ("a\nb", "'a\\nb'"),
        ("\x1b[31m", "'\\x1b[31m'"),
    ],
)
def test_a_value_is_shown_as_the_user_would_write_it(value: Any, text: str) -> None:
    assert shown(value) == text


def test_only_long_values_are_truncated() -> None:
    assert shown("a" * MAX_SHOWN) == "a" * MAX_SHOWN
    assert shown("a" * (MAX_SHOWN + 1)) == "a" * (MAX_SHOWN - 3) + "..."


@given(st.recursive(st.none() | st.integers() | st.floats() | st.text(), st.lists))
def test_a_shown_value_is_one_short_printable_line(value: Any) -> None:
    assert len(shown(value)) <= MAX_SHOWN
    assert shown(value).isprintable()


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({}, "box.size: expected a whole number from 1 to 9, got nothing"),
        ({"size": 10}, "box.size: expected a whole number from 1 to 9, got 10"),
        ({"size": 1, "colour": "green"}, "box.colour: expected a colour we have, got green"),
    ],
)
def test_pydantic_errors_become_one_line(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError) as complaint:
        Example.model_validate(values)
    assert str(explain(Example, values, complaint.value, prefix="box.")) == message


@pytest.mark.parametrize(
    ("word", "found"), [("val/top5", "val/top1"), ("VAL/TOP1", "val/top1"), ("speed", None), ("", None)]
)
def test_nearest_ignores_case(word: str, found: str | None) -> None:
    assert nearest(word, ["val/top1", "val/knn_top1"]) == found
