import optuna
import pytest

from tune_jobs.sampling import make_sampler


def suggestion(kind: str, *, seed: int, number: int) -> float:
    study = optuna.create_study(sampler=make_sampler(kind, seed=seed, number=number))
    return study.ask().suggest_float("x", 0, 1)


@pytest.mark.parametrize("kind", ["tpe", "random"])
def test_a_suggestion_depends_on_seed_and_number_and_on_nothing_else(kind: str) -> None:
    first = suggestion(kind, seed=0, number=3)
    assert suggestion(kind, seed=0, number=3) == first
    assert len({first, suggestion(kind, seed=1, number=3), suggestion(kind, seed=0, number=4)}) == 3
