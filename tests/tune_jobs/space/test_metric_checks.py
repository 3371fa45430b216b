import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tune_jobs.errors import BadInputError
from tune_jobs.space.metric_checks import check_metrics
from tune_jobs.space.metrics import DECISIVE, is_cost, limits
from tune_jobs.space.parameter_reader import read_parameters
from tune_jobs.space.settings_reader import read_settings
from tune_jobs.space.yaml_file import parse

SPACE = {"model.exit_stages": {"choices": [[1], [1, 2]]}}
CONDITIONAL = {
    "data.num_views": {"choices": [1, 2]},
    "model.exit_stages": {"choices": [[3], [1, 3]], "when": {"data.num_views": [2]}},
}

metrics = st.sampled_from([*DECISIVE, "val/exit1_top1"])


def refusal(*, space: dict[str, Any] | None = None, **sections: Any) -> str:
    """Return the error message for a file with these sections, without its position, or an empty text."""
    root = parse(json.dumps({"space": SPACE if space is None else space, **sections}), "f")
    items = root.mapping()
    settings = read_settings(items, name="example", dataset="digits")
    try:
        check_metrics(root, read_parameters(items["space"], {}), settings)
    except BadInputError as error:
        return str(error).partition(" ")[2]
    return ""


@given(st.lists(metrics, min_size=2, max_size=4))
def test_several_objectives_are_accepted_exactly_if_their_metrics_differ(names: list[str]) -> None:
    message = refusal(objective=[{"metric": name, "direction": "minimize"} for name in names])
    assert (message == "") == (len(set(names)) == len(names))


@pytest.mark.parametrize("metric", DECISIVE)
def test_only_a_cost_needs_a_direction(metric: str) -> None:
    assert (refusal(objective={"metric": metric}) != "") == is_cost(metric)
    assert refusal(objective={"metric": metric, "direction": "minimize"}) == ""


@given(metrics, st.sampled_from(["min", "max"]), st.floats(-2, 2) | st.floats(-1e6, 1e6))
def test_a_bound_must_be_a_possible_value_of_its_metric(metric: str, word: str, bound: float) -> None:
    low, high = limits(metric)
    message = refusal(constraints=[{"metric": metric, word: bound}])
    assert (message == "") == (low <= bound <= high)


@given(metrics, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_two_bounds_of_a_metric_must_be_compatible(
    metric: str, low: float, high: float, low_first: bool
) -> None:
    bounds = [{"metric": metric, "min": low}, {"metric": metric, "max": high}]
    message = refusal(constraints=bounds if low_first else bounds[::-1])
    assert (message == "") == (low <= high)


def test_different_metrics_are_bounded_independently() -> None:
    bounds = [{"metric": "val/top1", "min": 0.9}, {"metric": "val/knn_top1", "max": 0.1}]
    assert refusal(constraints=bounds) == ""


@pytest.mark.parametrize("metric", ["val/exit1_top1", "val/exit2_top1", "val/exit3_top1"])
def test_the_metric_of_an_exit_that_only_some_configurations_have_is_refused(metric: str) -> None:
    # If the exits are inactive, the default is an exit after stage 2.
    expected = "expected the metric of an exit that every configuration has"
    assert expected in refusal(space=CONDITIONAL, objective={"metric": metric})
    assert expected in refusal(space=CONDITIONAL, constraints=[{"metric": metric, "min": 0.5}])


@pytest.mark.parametrize(
    "metric", ["train/loss", "train/learning_rate", "test/top1", "val/exit0_top1", "top1"]
)
def test_an_unsuitable_metric_is_refused_as_objective_and_as_constraint(metric: str) -> None:
    assert refusal(objective={"metric": metric}).startswith("objective.metric: expected ")
    assert refusal(constraints=[{"metric": metric, "max": 0.5}]).startswith("constraints.metric: expected ")
