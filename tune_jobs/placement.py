"""On which nodes a trial's own process may run: losing it costs more than losing one of its workers."""

from collections.abc import Mapping, Sequence

MARKET_TYPE = "ray.io/market-type"  # ray._raylet.RAY_NODE_MARKET_TYPE_KEY
SPOT = "spot"


def trial_selector(nodes: Sequence[Mapping[str, str]]) -> dict[str, str]:
    """Return the label selector of a trial's own process, for nodes given by their labels.

    Where some node is spot and another one is not, a node that is not; else any, `{}`.
    """
    is_spot = [labels.get(MARKET_TYPE) == SPOT for labels in nodes]
    return {MARKET_TYPE: f"!{SPOT}"} if any(is_spot) and not all(is_spot) else {}
