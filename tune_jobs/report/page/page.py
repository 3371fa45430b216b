"""Rendering of the report page: a self-contained HTML file that makes no network requests."""

import base64
import hashlib
import json
from importlib.resources import files
from typing import Any

from tune_jobs.report.findings import answer
from tune_jobs.report.importance import parameter_importance
from tune_jobs.report.page import trial_rows
from tune_jobs.report.page.facts import winner_configuration
from tune_jobs.report.page.plot import Figure
from tune_jobs.report.page.section import Section
from tune_jobs.report.page.sections import first_tables, sections
from tune_jobs.study.snapshot import Snapshot


def report_page(snapshot: Snapshot) -> bytes:
    """Return the report of a search as self-contained HTML; the search may be running or without a result."""
    import jinja2

    importance = parameter_importance(snapshot)
    parts = sections(snapshot, importance)
    scripts = [_plotly(), _text("page.js")]
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    page = environment.from_string(_text("page.html")).render(
        snapshot=snapshot,
        answer=answer(snapshot, importance),
        tables=first_tables(snapshot),
        configuration=winner_configuration(snapshot),
        columns=trial_rows.columns(snapshot),
        rows=trial_rows.rows(snapshot),
        num_shown=trial_rows.NUM_SHOWN,
        sections=parts,
        style=_text("page.css"),
        scripts=scripts,
        hashes=" ".join(f"'sha256-{_digest(script)}'" for script in scripts),
        data=_embedded({"figures": _figures(parts), "trials": trial_rows.details(snapshot)}),
    )
    return page.encode()


def _figures(parts: list[Section]) -> dict[str, Any]:
    figures: list[Figure] = [figure for part in parts for figure in part.figures]
    return {figure.name: figure.as_json() for figure in figures}


def _embedded(content: Any) -> str:
    """JSON for a script element: with `<` escaped, no text in it can close the element."""
    return json.dumps(content, allow_nan=False, separators=(",", ":")).replace("<", "\\u003c")


def _plotly() -> str:
    """The plotly.js that the Python package ships."""
    return files("plotly").joinpath("package_data", "plotly.min.js").read_text(encoding="utf-8")


def _text(name: str) -> str:
    return files(__package__).joinpath(name).read_text(encoding="utf-8")


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
