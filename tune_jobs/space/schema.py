"""JSON Schema of a search-space file, for completion and error highlighting in editors.

The schema is generated from the models that read the file. It is less strict than `load_space`, which also
checks combinations of values. `python -m tune_jobs.space.schema` writes search_spaces/schema.json.
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from selfcon.config import FIELD_NAMES, SECTIONS, TrainConfig, field_annotation
from tune_jobs.space.field_docs import field_docs
from tune_jobs.space.parameter_reader import SAME_FOR_ALL_TRIALS, number_types
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
    """Return the JSON Schema (draft 2020-12) of a search-space file."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Search space of SelfCon training",
        **_mapping(_top_level(), required=["space"]),
        "$defs": _models() | {name: _branch(name) for name in _SEARCHED} | {
            "when": _mapping({name: _list(_field(name)) for name in _SEARCHED}, minProperties=1),
            "values": _mapping({name: _field(name) for name in _SEARCHED}, minProperties=1),
        },
    }  # fmt: skip


def text() -> str:
    """Return the contents of search_spaces/schema.json."""
    return json.dumps(space_schema(), indent=1, allow_nan=False) + "\n"


def _top_level() -> dict[str, Schema]:
    """Return the schema of each top-level key, with the description that an editor shows."""
    values = {"type": "array", "items": _ref("values")}
    objectives = [_ref("Objective"), {"type": "array", "minItems": 2, "items": _ref("Objective")}]
    parameters = {
        name: {"description": _doc(name), "anyOf": [_ref(name), _list(_ref(name))]} for name in _SEARCHED
    }
    described: Mapping[str, tuple[str, Schema]] = {
        "name": (
            "Name of the search; defaults to the file name without its suffix.",
            {"type": "string", "pattern": SLUG},
        ),
        "description": ("The question that the search answers.", {"type": "string"}),
        "train": ("Fixed values of training fields.", _ref("TrainConfig")),
        "space": (
            "Search parameters by dotted field name, with their choices or ranges.",
            _mapping(parameters, minProperties=1),
        ),
        "forbid": ("Combinations of values that are never tried.", values),
        "start": ("Configurations to try first.", values),
        "start_from": ("Another search whose best trials are tried first.", {"type": "string"}),
        "objective": (
            "Metric to optimise; a list of two or more makes a Pareto search.",
            {"anyOf": objectives},
        ),
        "constraints": (
            "Bounds on metrics that the winner must satisfy.",
            {"type": "array", "items": _ref("Constraint")},
        ),
        "search": ("Number of trials, sampler, concurrency and budgets.", _ref("SearchSettings")),
        "pruner": ("Early stopping of unpromising trials.", _ref("PrunerSettings")),
        "confirm": ("Retraining of the best trials with several seeds.", _ref("ConfirmSettings")),
        "trial": ("Workers and resources of one trial, and its hang timeout.", _ref("TrialSettings")),
        "tracking": ("MLflow experiment and registered model.", _ref("TrackingSettings")),
    }
    return {key: {"description": text, **schema} for key, (text, schema) in described.items()}


def _models() -> dict[str, Schema]:
    """Return the schemas of the models; a description is a field's documentation, then its valid values."""
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
    """Return the schema of a parameter's branch: its choices or range, and its condition."""
    properties: dict[str, Schema] = {"choices": {**_list(_field(name)), "uniqueItems": True}}
    forms = [{"required": ["choices"]}]
    numbers = number_types(field_annotation(name))
    if numbers:
        json_type = "number" if float in numbers else "integer"
        bound = {**_field(name), "type": json_type}
        step = {"type": json_type, "exclusiveMinimum": 0}
        properties |= {"low": bound, "high": bound, "step": step, "log": {"type": "boolean"}}
        forms.append({"required": ["low", "high"]})
    return _mapping({**properties, "when": _ref("when")}, oneOf=forms)


def _field(name: str) -> Schema:
    section, _, field = name.rpartition(".")
    model = SECTIONS[section] if section else TrainConfig
    return _ref(f"{model.__name__}/properties/{field}")


def _doc(name: str) -> str:
    """Return the documentation of a dotted field."""
    section, _, field = name.rpartition(".")
    return field_docs(SECTIONS[section] if section else TrainConfig)[field]


def _ref(definition: str) -> Schema:
    return {"$ref": f"#/$defs/{definition}"}


def _list(items: Schema) -> Schema:
    return {"type": "array", "minItems": 1, "items": items}


def _mapping(properties: Mapping[str, Schema], **keywords: Any) -> Schema:
    return {"type": "object", "additionalProperties": False, "properties": dict(properties), **keywords}


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
