import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from tune_jobs.space.settings import (
    MAX_NAME,
    PRUNER_FIELDS,
    SECONDS,
    PrunerSettings,
    SearchSettings,
    TrackingSettings,
    TrialSettings,
    is_slug,
)


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("90s", 90.0), ("30m", 1800.0), ("1h", 3600.0), ("2h30m", 9000.0), ("1d", 86400.0),
     ("1d2h3m4s", 93784.0), (3600, 3600.0), (0.5, 0.5), (None, None)],
)  # fmt: skip
def test_a_time_budget_is_converted_to_seconds(written: object, seconds: float | None) -> None:
    assert SearchSettings.model_validate({"time_budget": written}).time_budget_s == seconds


@pytest.mark.parametrize(("written", "seconds"), [({}, 1800.0), ({"hang_timeout": "90s"}, 90.0),
    ({"hang_timeout": 0.5}, 0.5)])  # fmt: skip
def test_a_hang_timeout_is_converted_to_seconds(written: dict[str, Any], seconds: float) -> None:
    assert TrialSettings.model_validate(written).hang_timeout_s == seconds


@pytest.mark.parametrize(("written", "fewest", "most"), [(3, 3, 3), ([1, 4], 1, 4), ([2, 3], 2, 3)])
def test_a_trial_has_a_number_of_workers_or_a_range(written: object, fewest: int, most: int) -> None:
    trial = TrialSettings.model_validate({"num_workers": written})
    assert (trial.min_workers, trial.max_workers) == (fewest, most)


@given(st.lists(st.none() | st.integers(1, 999_999), min_size=4, max_size=4).filter(any))
def test_the_units_of_a_time_budget_are_summed(numbers: list[int | None]) -> None:
    given_units = [(number, unit) for number, unit in zip(numbers, SECONDS, strict=True) if number]
    text = "".join(f"{number}{unit}" for number, unit in given_units)
    seconds = SearchSettings.model_validate({"time_budget": text}).time_budget_s
    assert seconds == sum(number * SECONDS[unit] for number, unit in given_units)


@given(st.text(alphabet="0123456789dhms. -", max_size=12))
def test_a_text_is_a_time_only_if_it_is_whole_numbers_with_descending_units(text: str) -> None:
    units = "".join(re.findall("[dhms]", text))
    numbers = re.split("[dhms]", text)
    is_time = (
        0 < len(units) == len(set(units))
        and sorted(units, key="dhms".index) == list(units)
        and numbers[-1] == ""
        and all(re.fullmatch("[1-9][0-9]{0,5}", number) for number in numbers[:-1])
    )
    try:
        SearchSettings.model_validate({"time_budget": text})
    except ValidationError:
        assert not is_time
    else:
        assert is_time


def test_the_settings_of_every_pruner_are_listed() -> None:
    kinds = PrunerSettings.model_json_schema()["properties"]["kind"]["enum"]
    assert list(PRUNER_FIELDS) == kinds
    assert {name for names in PRUNER_FIELDS.values() for name in names} == set(
        PrunerSettings.model_fields
    ) - {"kind"}


@pytest.mark.parametrize("name", ["a", "A-1", "x.y_z", "0" * MAX_NAME])
def test_a_name_of_letters_digits_and_inner_punctuation_is_a_slug(name: str) -> None:
    assert is_slug(name)
    assert TrackingSettings(experiment=name, registered_model=name).experiment == name


@pytest.mark.parametrize("name", ["", ".", "-a", "a-", "a/b", "a b", "a\n", "ä", "0" * (MAX_NAME + 1)])
def test_a_name_with_a_special_meaning_in_a_path_is_not_a_slug(name: str) -> None:
    assert not is_slug(name)
    with pytest.raises(ValidationError):
        TrackingSettings(experiment=name, registered_model="x")
