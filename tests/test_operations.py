"""Every program line quoted in docs/operations.md must exist in the source."""

import ast
import re
from pathlib import Path

import pytest

from tests.project import ROOT
from tune_jobs.flags import EPILOG
from tune_jobs.study.records import Reason

PAGE = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
SOURCES = [ROOT / "launch.py", *(ROOT / "tune_jobs").rglob("*.py"), *(ROOT / "selfcon").rglob("*.py")]
# Separators between the parts of a line: values, and the fixed words of every error (selfcon/errors.py).
BETWEEN = re.compile(
    rf"\.\.\.|^(?:error|{'|'.join(Reason)})\b|: expected |, got |; resume with: |: | \(|\)"
    r"|\b(?:file|folder)\b"
)
BEGINNINGS = (
    "error", "warning", "stopping", "interrupted", "waiting", "checkpoint", "pruned", "reproduced",
    "drift", "note", *Reason,
)  # fmt: skip
QUOTED = re.findall(rf"^    ((?:{'|'.join(BEGINNINGS)})\b.*)$", PAGE, re.MULTILINE)
EXIT_CODES = set(re.findall(r"(?<!\S)(\d+)(?=,? )", EPILOG.partition("exit codes:")[2])) | {"130", "143"}


def texts_of(path: Path) -> list[str]:
    """Every string in a module; values in f-strings are replaced with `...`."""
    texts = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            texts.append(node.value)
        elif isinstance(node, ast.JoinedStr):
            parts = (part.value if isinstance(part, ast.Constant) else "..." for part in node.values)
            texts.append("".join(map(str, parts)))
    return texts


TEXTS = "\n".join(text for path in SOURCES for text in texts_of(path))


@pytest.mark.parametrize("line", QUOTED)
def test_the_program_can_print_every_quoted_line(line: str) -> None:
    parts = [part.strip(" :,") for part in BETWEEN.split(line)]
    for part in filter(None, parts):
        assert part in TEXTS


def test_a_line_that_the_program_cannot_print_is_detected() -> None:
    assert "the search's folder cannot be used" in TEXTS
    assert "the search's folder can not be used" not in TEXTS


def test_the_page_explains_every_exit_code() -> None:
    listed = re.findall(r"^\| ([\d, ]+) \| .*(?:complete|\]\(#)", PAGE, re.MULTILINE)
    headed = re.findall(r"^## .*\(([\d, ]+)\)$", PAGE, re.MULTILINE)
    assert {code for cell in listed for code in cell.split(", ")} == EXIT_CODES
    assert {code for heading in headed for code in heading.split(", ")} == EXIT_CODES - {"0"}


@pytest.mark.parametrize("reason", re.findall(r"^\| `([a-z -]+)` \|", PAGE, re.MULTILINE))
def test_a_reason_on_the_page_exists(reason: str) -> None:
    assert reason in set(Reason)
