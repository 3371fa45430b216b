"""Generator of the tables in docs/search_spaces.md from the models that read a search-space file.

`python -m tune_jobs.space.reference` regenerates the tables, each between the lines `<!-- table: NAME -->`
and `<!-- end -->`. The text around the tables is written by hand.
"""

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import get_type_hints

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from selfcon.config import RULES, SECTIONS, TrainConfig
from selfcon.validation import describe
from selfcon.values import shown
from tune_jobs.space.field_docs import field_docs
from tune_jobs.space.metrics import DECISIVE, EXIT_TOP1
from tune_jobs.space.schema import space_schema
from tune_jobs.space.settings import (
    ConfirmSettings,
    Constraint,
    Objective,
    PrunerSettings,
    SearchSettings,
    TrackingSettings,
    TrialSettings,
)

PATH = Path(__file__).parents[2] / "docs" / "search_spaces.md"

SETTINGS: Mapping[str, type[BaseModel]] = {
    "objective": Objective,
    "constraints": Constraint,
    "search": SearchSettings,
    "pruner": PrunerSettings,
    "confirm": ConfirmSettings,
    "trial": TrialSettings,
    "tracking": TrackingSettings,
}

_TABLE = re.compile(r"(?<=<!-- table: )(\w+)( -->\n).*?(?=<!-- end -->)", re.DOTALL)


def text() -> str:
    """Return the current page with regenerated tables. Raises `KeyError` for an unknown table name."""
    generated = tables()
    page = PATH.read_text(encoding="utf-8")
    return _TABLE.sub(lambda found: f"{found[1]}{found[2]}\n{generated[found[1]]}\n\n", page)


def tables() -> dict[str, str]:
    """Return all tables by name."""
    return {
        "keys": _keys(),
        **{section: _fields(model, of=section) for section, model in SECTIONS.items()},
        "seed": _fields(TrainConfig, of="", only=("seed",)),
        "rules": _rules(),
        **{section: _fields(model, of=section) for section, model in SETTINGS.items()},
        "metrics": _metrics(),
    }


def _keys() -> str:
    descriptions = {key: schema["description"] for key, schema in space_schema()["properties"].items()}
    return _table(("key", "description"), ((f"`{key}`", text) for key, text in descriptions.items()))


def _fields(model: type[BaseModel], *, of: str, only: Iterable[str] | None = None) -> str:
    """Return a table with one row per field: dotted name, valid values, default, and description."""
    annotations, docs = get_type_hints(model, include_extras=True), field_docs(model)
    rows = (
        (
            f"`{f'{of}.{name}' if of else name}`",
            describe(annotations[name]),
            _default(model.model_fields[name]),
            docs[name],
        )
        for name in only or model.model_fields
    )
    return _table(("field", "value", "default", "description"), rows)


def _default(field: FieldInfo) -> str:
    return "" if field.is_required() else f"`{shown(field.default)}`"


def _rules() -> str:
    rows = ((", ".join(f"`{name}`" for name in rule.fields), str(rule.violation.__doc__)) for rule in RULES)
    return _table(("fields", "requirement"), rows)


def _metrics() -> str:
    of_an_exit = "accuracy of a linear probe on the exit after stage s; every trial must have this exit"
    metrics = {**DECISIVE, EXIT_TOP1: of_an_exit}
    return _table(("metric", "description"), ((f"`{name}`", text) for name, text in metrics.items()))


def _table(head: tuple[str, ...], rows: Iterable[tuple[str, ...]]) -> str:
    first, *others = (f"| {' | '.join(cells)} |" for cells in (head, *rows))
    return "\n".join([first, "|---" * len(head) + "|", *others])


if __name__ == "__main__":
    PATH.write_text(text(), encoding="utf-8")
