"""The examples in docstrings are run."""

import doctest
import importlib

import pytest

from tests.project import ROOT

MODULES = sorted(
    ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
    for package in ("selfcon", "tune_jobs")
    for path in (ROOT / package).rglob("*.py")
    if ">>> " in path.read_text(encoding="utf-8")
)
# The public entry points, each of which must have an example.
ENTRY_POINTS = {
    "selfcon",
    "selfcon.config",
    "selfcon.data.dataset",
    "selfcon.evaluation.evaluate",
    "selfcon.export",
    "selfcon.losses.contrastive",
    "selfcon.model.encoder",
    "selfcon.train",
    "tune_jobs.space.search_space",
}


@pytest.mark.parametrize("module", MODULES)
def test_examples_in_docstrings_give_what_they_show(module: str) -> None:
    failed, attempted = doctest.testmod(importlib.import_module(module))
    assert attempted > 0
    assert failed == 0


def test_every_public_entry_point_has_an_example() -> None:
    assert set(MODULES) >= ENTRY_POINTS
