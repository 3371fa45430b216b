"""Settings sections are read, or refused with a one-line message with the position of the error."""

import json
import re
from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from tune_jobs.errors import BadInputError
from tune_jobs.space.metrics import DECISIVE
from tune_jobs.space.schema import space_schema
from tune_jobs.space.settings import PRUNER_FIELDS, Settings
from tune_jobs.space.settings_reader import constraint_nodes, objective_nodes, read_settings
from tune_jobs.space.yaml_file import parse

VALIDATOR = Draft202012Validator(space_schema())
ONE_LINE = re.compile(r"f:\d+:\d+: [\w.]+: expected [^\n]+, got [^\n]+")

scalars = st.none() | st.booleans() | st.integers(-2, 10) | st.floats(allow_nan=False) | st.text(max_size=4)
anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.just("metric"), inner),
    max_leaves=4,
)

counts, amounts = st.integers(1, 9), st.integers(1, 9) | st.sampled_from([0.5, 0.25])
metrics, directions = st.sampled_from(sorted(DECISIVE)), st.sampled_from(["maximize", "minimize"])


def section(
    required: Mapping[str, Any] | None = None, /, **optional: Any
) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries(dict(required or {}), optional=optional)


objective = section({"metric": metrics, "direction": directions})
constraint = section({"metric": metrics, "max": amounts}) | section({"metric": metrics, "min": amounts})
VALID: dict[str, st.SearchStrategy[Any]] = {
    "objective": objective | section(metric=metrics) | st.lists(objective, min_size=2, max_size=3),
    "constraints": st.lists(constraint, max_size=3),
    "search": section(
        num_trials=counts,
        sampler=st.sampled_from(["tpe", "random", "gp", "cmaes", "qmc", "nsga2", "brute_force"]),
        seed=counts,
        max_concurrent=counts | st.just("auto"),
        time_budget=amounts | st.sampled_from(["90s", "30m", "1h", "2h30m", "1d", None]),
        accelerator_hours=amounts | st.none(),
    ),
    "pruner": section({"kind": st.just("median")}, min_epochs=counts)
    | section({"kind": st.sampled_from(["none", "hyperband"])}, min_epochs=counts),
    "confirm": section({"top_k": counts, "seeds": st.integers(2, 9)}),
    "trial": section(
        num_workers=counts | st.sampled_from([[1, 2], [2, 8]]),
        cpus_per_worker=amounts,
        gpus_per_worker=amounts | st.just(0),
        hang_timeout=amounts | st.sampled_from(["90s", "2h30m"]),
    ),
    "tracking": section(experiment=st.just("a.b"), registered_model=st.just("a-b")),
}
FIELDS = (
    "metric",
    "direction",
    "max",
    "sampler",
    "time_budget",
    "kind",
    "top_k",
    "num_workers",
    "hang_timeout",
    "experiment",
)


def damaged(valid: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return a strategy for a section with one arbitrary change, or an arbitrary value."""
    return anything | st.builds(
        lambda found, field, value: {**found, field: value} if isinstance(found, dict) else [*found, value],
        valid,
        st.sampled_from(FIELDS),
        anything,
    )


files = section(**VALID)
damaged_files = section(**{name: valid | damaged(valid) for name, valid in VALID.items()})


def read(text: str) -> Settings:
    return read_settings(parse(text, "f").mapping(), name="example", dataset="digits")


def refusal(text: str) -> str:
    try:
        read(text)
    except BadInputError as error:
        return str(error)
    return ""


@settings(max_examples=300)
@given(damaged_files)
def test_a_section_is_read_or_refused_in_one_line_with_its_position(written: dict[str, Any]) -> None:
    message = refusal(json.dumps(written))
    assert message == "" or ONE_LINE.fullmatch(message)


@given(files)
def test_a_valid_file_is_read_and_satisfies_the_schema(written: dict[str, Any]) -> None:
    assert refusal(json.dumps(written)) == ""
    assert VALIDATOR.is_valid({"space": {"seed": {"choices": [0, 1]}}, **written})


@settings(max_examples=300)
@given(st.sampled_from(sorted(VALID)).flatmap(lambda name: section({name: damaged(VALID[name])})))
def test_the_schema_accepts_every_file_that_is_read(written: dict[str, Any]) -> None:
    file = {"space": {"seed": {"choices": [0, 1]}}, **written}
    assert refusal(json.dumps(written)) != "" or VALIDATOR.is_valid(file)


def test_omitted_settings_have_their_defaults() -> None:
    found = read("{}")
    assert [(objective.metric, objective.direction) for objective in found.objectives] == [
        ("val/top1", "maximize")
    ]
    assert (found.constraints, found.confirm, found.pruner.kind) == ((), None, "none")
    assert (found.tracking.experiment, found.tracking.registered_model) == ("example", "selfcon-digits")


def test_a_missing_setting_is_reported_at_its_section_and_an_invalid_one_at_its_value() -> None:
    assert refusal("{confirm: {top_k: 3}}").startswith("f:1:11: confirm.seeds: expected a whole number")
    assert refusal("{confirm: {top_k: 0, seeds: 2}}").startswith("f:1:19: confirm.top_k: expected a whole")


def test_a_mapping_is_a_single_objective() -> None:
    one = parse("{metric: val/top1}", "f")
    assert objective_nodes(one) == [one]
    assert objective_nodes(None) == constraint_nodes(None) == []


@pytest.mark.parametrize("kind", ["median", "successive_halving", "hyperband"])
def test_a_setting_that_a_pruner_does_not_use_is_refused(kind: str) -> None:
    both = {"min_epochs": 2, "reduction_factor": 4}
    used = {name: both[name] for name in PRUNER_FIELDS[kind]}
    pruner = read(json.dumps({"pruner": {"kind": kind, **used}})).pruner
    assert pruner.model_dump(include=set(used)) == used
    unused = both.keys() - used
    message = refusal(json.dumps({"pruner": {"kind": kind, **both}}))
    assert [name for name in both if f"pruner.{name}: " in message] == list(unused)


def test_a_disabled_pruner_can_keep_its_settings() -> None:
    assert read("{pruner: {kind: none, min_epochs: 2, reduction_factor: 4}}").pruner.kind == "none"
