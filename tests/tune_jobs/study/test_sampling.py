import warnings
from typing import Any

import optuna
import pytest
from optuna.samplers._tpe.sampler import default_gamma
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.space.domains import Suggests
from tune_jobs.space.yaml_scalars import Scalar
from tune_jobs.study.records import Direction
from tune_jobs.study.sampling import NUM_GOOD, NUM_REMEMBERED, Suggester, forgettable, make_sampler

SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc", "nsga2", "brute_force")
# Enough for each to leave its random beginning: two generations of nsga2, a few optimised points of gp.
NUM_TRIALS = {"gp": 13, "nsga2": 64, "brute_force": 12}
ONE: list[Direction] = ["maximize"]
TWO: list[Direction] = ["maximize", "minimize"]


def suggest(trial: Suggests) -> dict[str, Any]:
    """A conditional space of 64 configurations."""
    values = {
        "kind": trial.suggest_categorical("kind", ["a", "b", "c"]),
        "width": trial.suggest_int("width", 1, 4),
        "rate": trial.suggest_float("rate", 0.25, 1, step=0.25),
    }
    more = {"depth": trial.suggest_categorical("depth", ["p", "q"])} if values["kind"] == "a" else {}
    return values | more


def finish(drawn: FrozenTrial, directions: list[Direction]) -> FrozenTrial:
    """Return the trial as it ended: every fourth is pruned."""
    values = [drawn.params["rate"] / drawn.params["width"], drawn.params["width"]][: len(directions)]
    pruned = drawn.number % 4 == 3
    trial = optuna.trial.create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        values=None if pruned else values,
        params=drawn.params,
        distributions=drawn.distributions,
        system_attrs=drawn.system_attrs,
        intermediate_values={1: values[0]} if len(directions) == 1 else {},
    )
    trial.number = drawn.number
    return trial


def run(kind: str, directions: list[Direction], *, restart: bool) -> list[dict[str, Any]]:
    """Return what is suggested one trial at a time, with a new suggester for each trial or one for all."""
    ended: list[FrozenTrial] = []
    found = []
    suggester = Suggester(kind, seed=1, directions=directions, trials=ended)
    for _ in range(NUM_TRIALS.get(kind, 24)):
        if restart:
            suggester = Suggester(kind, seed=1, directions=directions, trials=ended)
        drawn = suggester.sample(suggest)
        assert drawn is not None
        found.append(drawn[0])
        ended.append(finish(drawn[1], directions))
        suggester.end(ended[-1])
    return found


@pytest.mark.parametrize(
    ("kind", "directions"),
    [(kind, ONE) for kind in SAMPLERS] + [(kind, TWO) for kind in SAMPLERS if kind != "cmaes"],
)
def test_a_search_that_restarts_before_every_trial_suggests_the_same(
    kind: str, directions: list[Direction]
) -> None:
    assert run(kind, directions, restart=True) == run(kind, directions, restart=False)


def long_search(num_trials: int) -> list[FrozenTrial]:
    """Return finished trials drawn at random."""
    ended: list[FrozenTrial] = []
    suggester = Suggester("random", seed=0, directions=ONE, trials=[])
    for _ in range(num_trials):
        drawn = suggester.sample(suggest)
        assert drawn is not None
        ended.append(finish(drawn[1], ONE))
        suggester.end(ended[-1])
    return ended


def test_a_long_search_suggests_the_same_after_a_restart() -> None:
    ended = long_search(NUM_REMEMBERED + 50)
    lasting = Suggester("tpe", seed=1, directions=ONE, trials=ended)
    for _ in range(3):
        drawn = lasting.sample(suggest)
        restarted = Suggester("tpe", seed=1, directions=ONE, trials=ended).sample(suggest)
        assert drawn is not None
        assert restarted is not None
        assert drawn[0] == restarted[0]
        ended.append(finish(drawn[1], ONE))
        lasting.end(ended[-1])


def numbered(values: list[float | None], violation: float = 0) -> list[FrozenTrial]:
    """Return a COMPLETE trial for each value, a RUNNING one for None."""
    trials = []
    for number, value in enumerate(values):
        trial = optuna.trial.create_trial(
            state=TrialState.RUNNING if value is None else TrialState.COMPLETE,
            value=value,
            system_attrs={"constraints:memory": violation},
        )
        trial.number = number
        trials.append(trial)
    return trials


@pytest.mark.parametrize(("direction", "sign"), [("minimize", 1), ("maximize", -1)])
def test_tpe_remembers_the_best_and_the_latest(direction: Direction, sign: int) -> None:
    trials = numbered([float(sign * value) for value in range(400)])  # the oldest are the best
    kept = {trial.number for trial in trials} - forgettable(trials, direction)
    assert kept == set(range(NUM_GOOD)) | set(range(400 - (NUM_REMEMBERED - NUM_GOOD), 400))


def test_tpe_has_as_many_good_trials_with_what_it_remembers_as_with_all() -> None:
    assert default_gamma(NUM_REMEMBERED) == default_gamma(1_000_000) == NUM_GOOD


def test_trials_that_break_a_constraint_are_not_among_the_best() -> None:
    trials = numbered([float(value) for value in range(400)], violation=1)
    assert forgettable(trials, "minimize") == set(range(400 - NUM_REMEMBERED))


def test_tpe_remembers_running_trials_and_all_of_a_short_search() -> None:
    assert not forgettable(numbered([0.0] * NUM_REMEMBERED + [None] * 50), "minimize")
    assert not {0, 1} & forgettable(numbered([None, None] + [0.0] * 400), "minimize")


@pytest.mark.parametrize("kind", SAMPLERS)
def test_another_seed_is_another_search(kind: str) -> None:
    def first(seed: int) -> dict[str, Any]:
        drawn = Suggester(kind, seed=seed, directions=ONE, trials=[]).sample(suggest)
        assert drawn is not None
        return drawn[0]

    assert first(0) == first(0)
    assert len({str(first(seed)) for seed in range(10)}) > 5


@pytest.mark.parametrize("kind", SAMPLERS)
def test_suggestions_of_one_search_differ(kind: str) -> None:
    assert len({str(values) for values in run(kind, ONE, restart=False)}) > 5


def test_brute_force_tries_everything_once_and_then_ends() -> None:
    suggester = Suggester("brute_force", seed=0, directions=ONE, trials=[])
    found = []
    while (drawn := suggester.sample(suggest)) is not None:
        found.append(str(sorted(drawn[0].items())))
        suggester.end(finish(drawn[1], ONE))
    assert len(found) == len(set(found)) == 4 * 4 * (2 + 1 + 1)


def test_starting_points_come_first_each_once_also_after_a_restart() -> None:
    points: list[dict[str, Scalar]] = [{"kind": "b", "width": 2, "rate": 0.5}, {"kind": "c"}]
    suggester = Suggester("tpe", seed=0, directions=ONE, trials=[])
    first = suggester.sample(suggest, start=points)
    assert first is not None
    assert first[0] == points[0]
    ended = [finish(first[1], ONE)]
    second = Suggester("tpe", seed=0, directions=ONE, trials=ended).sample(suggest, start=points)
    assert second is not None
    assert second[0]["kind"] == "c"
    ended.append(finish(second[1], ONE))
    third = Suggester("tpe", seed=0, directions=ONE, trials=ended).sample(suggest, start=points)
    assert third is not None
    assert "fixed_params" not in third[1].system_attrs


@pytest.mark.parametrize("kind", SAMPLERS)
def test_making_a_sampler_warns_of_nothing(kind: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_sampler(kind, seed=0, number=0)
    assert not caught
