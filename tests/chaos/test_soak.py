"""Short soak test: kills a worker, a trial actor and the launcher of a real search."""

from pathlib import Path

import pytest

from .invariants import INVARIANTS
from .soak import short_soak

SEED = 1


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_invariants_hold_after_kills(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    result = short_soak(tmp_path, seed=SEED, note=print)
    broken = {name: check(result.facts).broken for name, check in INVARIANTS.items()}
    assert broken == dict.fromkeys(INVARIANTS, ())
    assert len(result.history.kills) == 3
