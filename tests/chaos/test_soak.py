"""The short soak: a worker, a trial's actor and the launcher are killed, on real parts."""

from pathlib import Path

import pytest

from .invariants import INVARIANTS
from .soak import short_soak

SEED = 1


@pytest.mark.soak
@pytest.mark.timeout(400)
def test_a_search_whose_parts_are_killed_keeps_every_invariant(tmp_path: Path) -> None:
    print(f"seed {SEED}")
    soaked = short_soak(tmp_path, seed=SEED, note=print)
    broken = {name: check(soaked.facts).broken for name, check in INVARIANTS.items()}
    assert broken == dict.fromkeys(INVARIANTS, ())
    assert len(soaked.story.kills) == 3
