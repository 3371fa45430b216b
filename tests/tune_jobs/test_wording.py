import pytest

from tune_jobs.wording import counted, duration


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"),
        (0.4, "0 s"),
        (3.7, "4 s"),
        (59.6, "1 min"),
        (45.4, "45 s"),
        (125, "2 min 5 s"),
        (12_000, "3 h 20 min"),
        (187_200, "2 d 4 h"),
    ],
)
def test_a_duration_is_shown_in_its_two_largest_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_counts_are_shown_with_singular_or_plural() -> None:
    assert [counted(1, "epoch"), counted(1200, "epoch"), counted(2, "launch", "launches")] == [
        "1 epoch", "1,200 epochs", "2 launches",
    ]  # fmt: skip
