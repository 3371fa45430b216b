import re
from pathlib import Path

import pytest
import yaml

from tune_jobs.space import load_space

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
MODULES = sorted(
    path
    for folder in ("selfcon", "tune_jobs")
    for path in (ROOT / folder).rglob("*.py")
    if path.name != "__init__.py"
)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_the_file_tree_names_every_module(path: Path) -> None:
    assert re.search(rf"\b{path.name}\b", README)


def test_the_file_tree_names_nothing_that_is_not_there() -> None:
    named = set(re.findall(r"\b\w+\.py\b", README))
    examples = {path.name for path in (ROOT / "examples").rglob("*.py")}
    assert named <= {path.name for path in MODULES} | examples | {"launch.py"}


def test_the_example_space_of_the_readme_is_a_search_space(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert example
    (tmp_path / "space.yaml").write_text(example[1])
    assert load_space(tmp_path / "space.yaml").name == yaml.safe_load(example[1])["name"]
