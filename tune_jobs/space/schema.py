"""The JSON Schema of a search-space file, so that editors complete its keys and underline what is wrong.

It is made of the models that read the file, and can say less than they check: what values may not be
together stays with `load_space`. `python -m tune_jobs.space.schema` writes search_spaces/schema.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from selfcon.config import FIELD_NAMES, SECTIONS, TrainConfig, field_annotation
from tune_jobs.space.field_docs import field_docs
from tune_jobs.space.parameter_reader import SAME_FOR_ALL_TRIALS, numbers_of
from tune_jobs.space.settings import (
    SLUG,
    ConfirmSettings,
    Constraint,
    Objective,
    PrunerSettings,
    SearchSettings,
    TrackingSettings,
    TrialSettings,
)

PATH = Path(__file__).parents[2] / "search_spaces" / "schema.json"

_MODELS: tuple[type[BaseModel], ...] = (
    TrainConfig, Objective, Constraint, SearchSettings, PrunerSettings, ConfirmSettings, TrialSettings,
    TrackingSettings,
)  # fmt: skip
_SEARCHED = tuple(name for name in FIELD_NAMES if name not in SAME_FOR_ALL_TRIALS)

Schema = dict[str, Any]


def space_schema() -> Schema:
    """Return the schema (JSON Schema, draft 2020-12) that every search-space file meets."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A search space of SelfCon training",
        **_mapping(_top_level(), required=["space"]),
        "$defs": _models() | {name: _branch(name) for name in _SEARCHED} | {
            "when": _mapping({name: _list(_field(name)) for name in _SEARCHED}, minProperties=1),
            "values": _mapping({name: _field(name) for name in _SEARCHED}, minProperties=1),
        },
    }  # fmt: skip


def text() -> str:
    """Return the schema as search_spaces/schema.json holds it."""
    return json.dumps(space_schema(), indent=1, allow_nan=False) + "\n"


def _top_level() -> dict[str, Schema]:
    """The schema of each key of the file, with the words an editor shows beside it."""
    values = {"type": "array", "items": _ref("values")}
    objectives = [_ref("Objective"), {"type": "array", "minItems": 2, "items": _ref("Objective")}]
    parameters = {
        name: {"description": _doc(name), "anyOf": [_ref(name), _list(_ref(name))]} for name in _SEARCHED
    }
    described: Mapping[str, tuple[str, Schema]] = {
        "name": ("The identity of the search; the file's stem.", {"type": "string", "pattern": SLUG}),
        "description": ("What the search asks.", {"type": "string"}),
        "train": ("Fixed values of any training field.", _ref("TrainConfig")),
        "space": ("What is explored, by dotted field.", _mapping(parameters, minProperties=1)),
        "forbid": ("Combinations never tried.", values),
        "start": ("Configurations tried first.", values),
        "start_from": ("Another search, whose best trials are tried first.", {"type": "string"}),
        "objective": ("What is sought; a list of two or more is a Pareto search.", {"anyOf": objectives}),
        "constraints": ("What the winner must keep to.", {"type": "array", "items": _ref("Constraint")}),
        "search": ("How many trials, and what suggests them.", _ref("SearchSettings")),
        "pruner": ("Which trials end early.", _ref("PrunerSettings")),
        "confirm": ("Train the best few again over several seeds.", _ref("ConfirmSettings")),
        "trial": ("What one trial runs on.", _ref("TrialSettings")),
        "tracking": ("Where MLflow records and registers.", _ref("TrackingSettings")),
    }
    return {key: {"description": words, **schema} for key, (words, schema) in described.items()}


def _models() -> dict[str, Schema]:
    """The models' own schemas; what a field does comes before what its value must be."""
    _, schema = models_json_schema([(model, "validation") for model in _MODELS])
    definitions: dict[str, Schema] = schema["$defs"]
    del definitions["TrackingSettings"]["required"]  # the reader fills in what the file omits
    for model in (*_MODELS, *SECTIONS.values()):
        properties = definitions[model.__name__]["properties"]
        for name, doc in field_docs(model).items():
            value = properties[name].get("description")
            properties[name]["description"] = f"{doc} Expected: {value}." if value else doc
    return definitions


def _branch(name: str) -> Schema:
    """The choices or the range of one parameter, and when they apply."""
    properties: dict[str, Schema] = {"choices": {**_list(_field(name)), "uniqueItems": True}}
    forms = [{"required": ["choices"]}]
    numbers = numbers_of(field_annotation(name))
    if numbers:
        kind = "number" if float in numbers else "integer"
        bound = {**_field(name), "type": kind}
        step = {"type": kind, "exclusiveMinimum": 0}
        properties |= {"low": bound, "high": bound, "step": step, "log": {"type": "boolean"}}
        forms.append({"required": ["low", "high"]})
    return _mapping({**properties, "when": _ref("when")}, oneOf=forms)


def _field(name: str) -> Schema:
    section, _, field = name.rpartition(".")
    model = SECTIONS[section] if section else TrainConfig
    return _ref(f"{model.__name__}/properties/{field}")


def _doc(name: str) -> str:
    """What a dotted field does."""
    section, _, field = name.rpartition(".")
    return field_docs(SECTIONS[section] if section else TrainConfig)[field]


def _ref(definition: str) -> Schema:
    return {"$ref": f"#/$defs/{definition}"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _mapping(properties: Mapping[str, Schema], **conditions: Any) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties), **conditions}


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
