"""Which tests run in the same process, so that nothing expensive is set up twice.

Tests of a Ray cluster run one after the other while other processes run the rest. Tests that share a server
run in one process, and so do those of a file with fixtures of its own. All others fill the gaps.
"""

from functools import cache

from tests.project import ROOT

CLUSTER = "cluster"
SERVERS = ("mlflow_server", "running_postgresql", "postgresql_server", "s3_endpoint")


def group_of(nodeid: str) -> str:
    """Return the group of a test: tests of one group run in one process, in order."""
    return _group_of_file(nodeid.partition("::")[0]) or nodeid


def place_of(nodeid: str) -> int:
    """Return when a group starts: tests of a Ray cluster first, single tests last."""
    group = group_of(nodeid)
    return 0 if group == CLUSTER else 2 if group == nodeid else 1


@cache
def _group_of_file(file: str) -> str | None:
    text = (ROOT / file).read_text(encoding="utf-8")
    if "pytest.mark.cluster" in text:
        return CLUSTER
    server = next((name for name in SERVERS if f"{name}:" in text), None)
    return server or (file if 'scope="module"' in text else None)
