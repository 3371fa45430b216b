import re
from pathlib import Path

import yaml

from tests.project import ROOT
from tune_jobs.space import load_space

README = (ROOT / "README.md").read_text()


def test_the_example_space_of_the_readme_loads(tmp_path: Path) -> None:
    example = re.search(r"```yaml\n(.*?)```", README, re.DOTALL)
    assert example
    (tmp_path / "space.yaml").write_text(example[1])
    assert load_space(tmp_path / "space.yaml").name == yaml.safe_load(example[1])["name"]
