"""Nodes for trial actors."""

import pytest

from tune_jobs.cluster.nodes import trial_selector
from tune_jobs.cluster.ray_internals import MARKET_TYPE

SPOT, ON_DEMAND, UNLABELED = {MARKET_TYPE: "spot"}, {MARKET_TYPE: "on-demand"}, {"ray.io/node-id": "1"}


@pytest.mark.parametrize("nodes", [[SPOT, ON_DEMAND], [UNLABELED, SPOT, SPOT]])
def test_a_trial_actor_avoids_spot_nodes_if_there_are_others(nodes: list[dict[str, str]]) -> None:
    assert trial_selector(nodes) == {MARKET_TYPE: "!spot"}


@pytest.mark.parametrize("nodes", [[], [UNLABELED], [UNLABELED, ON_DEMAND], [SPOT], [SPOT, SPOT]])
def test_a_trial_actor_runs_on_any_node_if_none_or_all_are_spot(nodes: list[dict[str, str]]) -> None:
    assert trial_selector(nodes) == {}
