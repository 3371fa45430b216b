import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from tests.project import ROOT
from tune_jobs.errors import BadInputError
from tune_jobs.space import load_space
from tune_jobs.space.schema import PATH, space_schema, text
from tune_jobs.space.search_space import KEYS
from tune_jobs.space.yaml_file import parse, read_file

SHIPPED = sorted((ROOT / "search_spaces").glob("*.yaml"))
VALIDATOR = Draft202012Validator(space_schema())

# A file with every key.
EVERYTHING = """\
name: everything
description: A file with every key
train:
  data: {dataset: digits, validation_fraction: 0.2, image_size: null}
  optim: {epochs: 8, learning_rate: 1e-1, schedule: step, step_epochs: [4, 6]}
  seed: 1
space:
  model.exit_stages: {choices: [[1], [2], [3]]}
  model.exit_depth:
    - {choices: [fc, small], when: {model.exit_stages: [[1], [2]]}}
    - {low: 1, high: 2}
  loss.temperature: {low: 0.05, high: 0.5, log: true}
  loss.exit_weight: {low: 0, high: 4, step: 0.5}
  loss.use_labels: {choices: [true]}
forbid: [{model.exit_stages: [1], model.exit_depth: small}]
start: [{model.exit_stages: [2], loss.temperature: 0.1}]
start_from: another
objective: [{metric: val/top1}, {metric: cost/train_macs, direction: minimize}]
constraints: [{metric: cost/peak_memory_mb, max: 4000}, {metric: val/top1, min: 0.5}]
search:
  {num_trials: 12, sampler: nsga2, seed: 0, max_concurrent: auto, time_budget: 2h30m, accelerator_hours: 1}
pruner: {kind: hyperband, min_epochs: 2, reduction_factor: 3}
confirm: {top_k: 3, seeds: 3}
trial: {num_workers: [1, 4], cpus_per_worker: 0.5, gpus_per_worker: 0, hang_timeout: 10m}
tracking: {registered_model: mine}
"""

BAD = {
    "a misspelt key": "space: {seed: {choices: [0]}}\nserach: {}\n",
    "no space": "name: x\n",
    "an empty space": "space: {}\n",
    "an unknown field": "space: {loss.temprature: {choices: [0.1]}}\n",
    "a field that must be the same for all trials": "space: {data.dataset: {choices: [digits]}}\n",
    "a value out of range": "space: {loss.temperature: {choices: [0.1, 0]}}\n",
    "low without high": "space: {loss.temperature: {low: 0.1}}\n",
    "a range of text": "space: {model.backbone: {low: 0, high: 1}}\n",
    "a range of fractions for a whole number": "space: {optim.epochs: {low: 1.5, high: 2}}\n",
    "a duplicate choice": "space: {seed: {choices: [0, 0]}}\n",
    "a condition without a list": "space: {seed: {choices: [0], when: {model.width: 8}}}\n",
    "a misspelt training field": "space: {seed: {choices: [0]}}\ntrain: {loss: {temprature: 1}}\n",
    "a number for a boolean setting": "space: {seed: {choices: [0]}}\ntrain: {runtime: {compile: 1}}\n",
    "one objective in a list": "space: {seed: {choices: [0]}}\nobjective: [{metric: val/top1}]\n",
    "an unknown direction": "space: {seed: {choices: [0]}}\nobjective: {direction: min}\n",
    "a constraint without a bound": "space: {seed: {choices: [0]}}\nconstraints: [{metric: val/top1}]\n",
    "a constraint with two bounds":
        "space: {seed: {choices: [0]}}\nconstraints: [{metric: val/top1, min: 0, max: 1}]\n",
    "an unknown sampler": "space: {seed: {choices: [0]}}\nsearch: {sampler: bayes}\n",
    "a time budget in clock notation": "space: {seed: {choices: [0]}}\nsearch: {time_budget: 1:30}\n",
    "three bounds of workers": "space: {seed: {choices: [0]}}\ntrial: {num_workers: [1, 2, 3]}\n",
    "a hang timeout of null": "space: {seed: {choices: [0]}}\ntrial: {hang_timeout: null}\n",
    "confirm over one seed": "space: {seed: {choices: [0]}}\nconfirm: {top_k: 1, seeds: 1}\n",
    "an empty forbid": "space: {seed: {choices: [0]}}\nforbid: [{}]\n",
    "a name with a slash": "space: {seed: {choices: [0]}}\nname: a/b\n",
}  # fmt: skip


def violations(text: str) -> list[str]:
    return [error.message for error in VALIDATOR.iter_errors(parse(text, "f").plain())]


def test_the_shipped_schema_is_the_generated_one() -> None:
    assert PATH.read_text(encoding="utf-8") == text()


def test_the_schema_is_a_valid_json_schema() -> None:
    Draft202012Validator.check_schema(json.loads(text()))


def test_the_schema_names_every_key_of_the_file() -> None:
    assert tuple(space_schema()["properties"]) == KEYS


def test_every_reference_can_be_resolved() -> None:
    schema = space_schema()
    for reference in set(re.findall(r'"\$ref": "#/([^"]+)"', text())):
        found: Any = schema
        for part in reference.split("/"):
            found = found[part]
        assert isinstance(found, dict)


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_space_satisfies_the_schema_that_its_first_line_names(path: Path) -> None:
    content, root = read_file(path)
    assert content.splitlines()[0] == f"# yaml-language-server: $schema={PATH.name}"
    assert (path.parent / PATH.name) == PATH
    assert list(VALIDATOR.iter_errors(root.plain())) == []


def test_a_file_with_every_key_satisfies_the_schema_and_is_loaded(tmp_path: Path) -> None:
    (tmp_path / "everything.yaml").write_text(EVERYTHING)
    assert set(parse(EVERYTHING, "f").mapping()) == set(KEYS)
    assert violations(EVERYTHING) == []
    assert load_space(tmp_path / "everything.yaml").name == "everything"


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_file_that_violates_the_schema_is_refused_by_the_loader(tmp_path: Path, bad: str) -> None:
    assert violations(bad)
    (tmp_path / "bad.yaml").write_text(bad)
    with pytest.raises(BadInputError):
        load_space(tmp_path / "bad.yaml")
