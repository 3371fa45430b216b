import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.space.yaml_scalars import MAX_WHOLE, Scalar, plain_scalar


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", None),
        ("~", None),
        ("null", None),
        ("NULL", None),
        ("true", True),
        ("True", True),
        ("FALSE", False),
        ("0", 0),
        ("-0", 0),
        ("+12", 12),
        ("0o17", 15),
        ("0x1F", 31),
        ("1e-3", 0.001),
        ("1E5", 100000.0),
        (".5", 0.5),
        ("5.", 5.0),
        ("-1.5e+2", -150.0),
        ("00.5", 0.5),
        (".inf", math.inf),
        ("-.INF", -math.inf),
    ],
)
def test_scalars_are_parsed_by_the_core_schema(text: str, value: Scalar) -> None:
    found = plain_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_nan_is_parsed_as_a_float() -> None:
    found = plain_scalar(".nan")
    assert isinstance(found, float)
    assert math.isnan(found)


@pytest.mark.parametrize(
    "text",
    ["yes", "no", "on", "off", "y", "n", "12:30", "1_000", "0b11", "2026-01-31", "nUll", "tRUE", "1e", "e5",
     ".", "+", "-", "0o8", "0x", "--1", "1.2.3", "inf", "nan", "+.nan", "1e-3x", "٣"],
)  # fmt: skip
def test_everything_else_is_text(text: str) -> None:
    assert plain_scalar(text) == text


@pytest.mark.parametrize("text", ["017", "-01", "00", "+007"])
def test_an_ambiguous_leading_zero_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a number without leading zeros") as refused:
        plain_scalar(text)
    assert refused.value.args == ("a number without leading zeros", text)


@pytest.mark.parametrize("text", [str(MAX_WHOLE + 1), str(-MAX_WHOLE - 1), "9" * 5000, "0x" + "f" * 40])
def test_a_whole_number_beyond_exact_doubles_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="a whole number of at most"):
        plain_scalar(text)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_the_shortest_decimal_of_a_float_is_parsed_exactly(value: float) -> None:
    assert plain_scalar(repr(value)) == value


@given(st.integers(-MAX_WHOLE, MAX_WHOLE))
def test_a_decimal_whole_number_is_parsed_exactly(value: int) -> None:
    found = plain_scalar(str(value))
    assert found == value
    assert isinstance(found, int)


@given(st.integers(0, MAX_WHOLE))
def test_octal_and_hexadecimal_numbers_are_parsed_exactly(value: int) -> None:
    assert plain_scalar(oct(value)) == plain_scalar(hex(value)) == value
