import pytest
from pydantic import BaseModel

from selfcon.config import SECTIONS, TrainConfig
from tune_jobs.space.field_docs import field_docs
from tune_jobs.space.reference import SETTINGS


class Example(BaseModel):
    """This text belongs to no field."""

    one: int = 1
    """Text on
    two lines."""
    two: int = 2
    three: int = 3
    """Text of the last field."""


def test_the_documentation_of_a_field_is_the_string_below_it() -> None:
    assert field_docs(Example) == {"one": "Text on two lines.", "three": "Text of the last field."}


@pytest.mark.parametrize("model", [*SECTIONS.values(), *SETTINGS.values()], ids=lambda model: model.__name__)
def test_every_field_is_documented_by_a_sentence(model: type[BaseModel]) -> None:
    docs = field_docs(model)
    assert docs.keys() == model.model_fields.keys()
    assert all(text.endswith(".") for text in docs.values())


def test_fields_without_a_section_are_documented() -> None:
    assert field_docs(TrainConfig).keys() == TrainConfig.model_fields.keys() - SECTIONS.keys()
