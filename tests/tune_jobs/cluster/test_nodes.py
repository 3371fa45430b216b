"""Where a trial's own process may run."""

import pytest

from tune_jobs.cluster.nodes import trial_selector
from tune_jobs.cluster.ray_internals import MARKET_TYPE

SPOT, ON_DEMAND, SILENT = {MARKET_TYPE: "spot"}, {MARKET_TYPE: "on-demand"}, {"ray.io/node-id": "1"}


@pytest.mark.parametrize("nodes", [[SPOT, ON_DEMAND], [SILENT, SPOT, SPOT]])
def test_a_trial_runs_on_a_node_that_is_not_spot_where_there_is_one(nodes: list[dict[str, str]]) -> None:
    assert trial_selector(nodes) == {MARKET_TYPE: "!spot"}


@pytest.mark.parametrize("nodes", [[], [SILENT], [SILENT, ON_DEMAND], [SPOT], [SPOT, SPOT]])
def test_a_trial_runs_anywhere_where_no_node_is_spot_or_all_are(nodes: list[dict[str, str]]) -> None:
    assert trial_selector(nodes) == {}
