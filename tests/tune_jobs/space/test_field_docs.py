import pytest
from pydantic import BaseModel

from selfcon.config import SECTIONS, TrainConfig
from tune_jobs.space.field_docs import field_docs
from tune_jobs.space.reference import SETTINGS


class Example(BaseModel):
    """No text of a field."""

    one: int = 1
    """A text
    of two lines."""
    two: int = 2
    three: int = 3
    """Of the last."""


def test_the_text_of_a_field_is_the_string_below_it() -> None:
    assert field_docs(Example) == {"one": "A text of two lines.", "three": "Of the last."}


@pytest.mark.parametrize("model", [*SECTIONS.values(), *SETTINGS.values()], ids=lambda model: model.__name__)
def test_every_field_says_in_a_sentence_what_it_does(model: type[BaseModel]) -> None:
    docs = field_docs(model)
    assert docs.keys() == model.model_fields.keys()
    assert all(text.endswith(".") for text in docs.values())


def test_a_field_without_a_section_says_it_too() -> None:
    assert field_docs(TrainConfig).keys() == TrainConfig.model_fields.keys() - SECTIONS.keys()
