import re
from pathlib import Path

import pytest

from selfcon.config import FIELD_NAMES, RULES, LossConfig, Rule
from selfcon.validation import words_of
from selfcon.values import shown
from tests.project import ROOT
from tune_jobs.commands.command_line import parse
from tune_jobs.space import load_space
from tune_jobs.space.field_docs import field_docs
from tune_jobs.space.reference import PATH, tables, text
from tune_jobs.space.search_space import KEYS
from tune_jobs.space.settings import PRUNER_FIELDS, SearchSettings
from tune_jobs.space.yaml_scalars import plain_scalar

PAGE = PATH.read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
ANY_SPACE = "space: {loss.temperature: {low: 0.1, high: 0.5}}\n"


def rows_of(table: str) -> list[str]:
    return re.findall(r"^\| `([^`]+)`", table, re.MULTILINE)


def test_the_page_has_the_tables_that_the_code_generates() -> None:
    assert text() == PAGE


@pytest.mark.parametrize("name", tables())
def test_the_page_has_every_table(name: str) -> None:
    assert PAGE.count(f"<!-- table: {name} -->") == 1


def test_an_altered_table_is_regenerated(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    altered = tmp_path / "page.md"
    altered.write_text(PAGE.replace("| `seed` |", "| `sed` |"))
    monkeypatch.setattr("tune_jobs.space.reference.PATH", altered)
    assert text() == PAGE


def test_the_tables_name_every_key_field_and_rule() -> None:
    generated = tables()
    assert tuple(rows_of(generated["keys"])) == KEYS
    assert set(FIELD_NAMES) <= {name for table in generated.values() for name in rows_of(table)}
    assert generated["rules"].count("\n") == len(RULES) + 1


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.violation.__name__)
def test_every_rule_is_documented_by_a_sentence(rule: Rule) -> None:
    assert str(rule.violation.__doc__).endswith(".")


def test_a_row_has_the_valid_values_the_default_and_the_description() -> None:
    row = next(line for line in tables()["loss"].splitlines() if line.startswith("| `loss.temperature`"))
    description = field_docs(LossConfig)["temperature"]
    assert row == f"| `loss.temperature` | a finite number greater than 0 | `0.1` | {description} |"


@pytest.mark.parametrize("example", EXAMPLES)
def test_every_example_of_the_page_is_a_valid_search_space(example: str, tmp_path: Path) -> None:
    (tmp_path / "example.yaml").write_text(example if "space:" in example else ANY_SPACE + example)
    assert load_space(tmp_path / "example.yaml").name == "example"


def test_the_page_has_an_example_of_every_key() -> None:
    named = {key for example in EXAMPLES for key in re.findall(r"^(\w+):", example, re.MULTILINE)}
    assert named >= set(KEYS) - {"name", "description"}


def test_the_page_describes_every_sampler_and_pruner() -> None:
    described = rows_of(PAGE)
    samplers = words_of(SearchSettings.model_fields["sampler"].annotation)
    assert set(samplers) | set(PRUNER_FIELDS) <= set(described)


@pytest.mark.parametrize(("written", "read"), re.findall(r"^\| `(\S+)` \| `(\S+)` \|$", PAGE, re.MULTILINE))
def test_values_are_parsed_as_the_page_states(written: str, read: str) -> None:
    assert shown(plain_scalar(written)).strip("'") == read


@pytest.mark.parametrize("arguments", re.findall(r"^    python launch\.py (.*)$", PAGE, re.MULTILINE))
def test_a_command_of_the_page_works(arguments: str) -> None:
    options = parse(arguments.split())
    assert options.space is not None
    assert load_space(ROOT / options.space, overrides=options.overrides, name=options.name)
