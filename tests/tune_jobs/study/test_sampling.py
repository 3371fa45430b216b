import warnings
from typing import Any

import optuna
import pytest
from optuna.samplers._tpe.sampler import default_gamma
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.space.domains import Suggests
from tune_jobs.space.yaml_scalars import Scalar
from tune_jobs.study.records import Direction
from tune_jobs.study.sampling import NUM_GOOD, NUM_VISIBLE, Suggester, invisible_to_tpe, make_sampler

SAMPLERS = ("tpe", "random", "gp", "cmaes", "qmc", "nsga2", "brute_force")
# Enough to reach the model-based phase: two generations of nsga2, a few optimised points of gp.
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


def finish(sampled: FrozenTrial, directions: list[Direction]) -> FrozenTrial:
    """Return the finished trial; every fourth is pruned."""
    values = [sampled.params["rate"] / sampled.params["width"], sampled.params["width"]][: len(directions)]
    pruned = sampled.number % 4 == 3
    trial = optuna.trial.create_trial(
        state=TrialState.PRUNED if pruned else TrialState.COMPLETE,
        values=None if pruned else values,
        params=sampled.params,
        distributions=sampled.distributions,
        system_attrs=sampled.system_attrs,
        intermediate_values={1: values[0]} if len(directions) == 1 else {},
    )
    trial.number = sampled.number
    return trial


def run(kind: str, directions: list[Direction], *, restart: bool) -> list[dict[str, Any]]:
    """Return sequential suggestions, with one suggester, or a new one for each trial."""
    ended: list[FrozenTrial] = []
    found = []
    suggester = Suggester(kind, seed=1, directions=directions, trials=ended)
    for _ in range(NUM_TRIALS.get(kind, 24)):
        if restart:
            suggester = Suggester(kind, seed=1, directions=directions, trials=ended)
        sampled = suggester.sample(suggest)
        assert sampled is not None
        found.append(sampled[0])
        ended.append(finish(sampled[1], directions))
        suggester.end(ended[-1])
    return found


@pytest.mark.parametrize(
    ("kind", "directions"),
    [(kind, ONE) for kind in SAMPLERS] + [(kind, TWO) for kind in SAMPLERS if kind != "cmaes"],
)
def test_a_restart_before_every_trial_does_not_change_the_suggestions(
    kind: str, directions: list[Direction]
) -> None:
    assert run(kind, directions, restart=True) == run(kind, directions, restart=False)


def long_search(num_trials: int) -> list[FrozenTrial]:
    """Return finished random trials."""
    ended: list[FrozenTrial] = []
    suggester = Suggester("random", seed=0, directions=ONE, trials=[])
    for _ in range(num_trials):
        sampled = suggester.sample(suggest)
        assert sampled is not None
        ended.append(finish(sampled[1], ONE))
        suggester.end(ended[-1])
    return ended


def test_a_restart_of_a_long_search_does_not_change_the_suggestions() -> None:
    ended = long_search(NUM_VISIBLE + 50)
    running = Suggester("tpe", seed=1, directions=ONE, trials=ended)
    for _ in range(3):
        sampled = running.sample(suggest)
        restarted = Suggester("tpe", seed=1, directions=ONE, trials=ended).sample(suggest)
        assert sampled is not None
        assert restarted is not None
        assert sampled[0] == restarted[0]
        ended.append(finish(sampled[1], ONE))
        running.end(ended[-1])


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
def test_tpe_reads_the_best_and_the_latest_trials(direction: Direction, sign: int) -> None:
    trials = numbered([float(sign * value) for value in range(400)])  # the oldest are the best
    kept = {trial.number for trial in trials} - invisible_to_tpe(trials, direction)
    assert kept == set(range(NUM_GOOD)) | set(range(400 - (NUM_VISIBLE - NUM_GOOD), 400))


def test_tpe_has_as_many_good_trials_with_the_visible_trials_as_with_all() -> None:
    assert default_gamma(NUM_VISIBLE) == default_gamma(1_000_000) == NUM_GOOD


def test_trials_that_violate_a_constraint_are_not_among_the_best() -> None:
    trials = numbered([float(value) for value in range(400)], violation=1)
    assert invisible_to_tpe(trials, "minimize") == set(range(400 - NUM_VISIBLE))


def test_tpe_reads_running_trials_and_all_trials_of_a_short_search() -> None:
    assert not invisible_to_tpe(numbered([0.0] * NUM_VISIBLE + [None] * 50), "minimize")
    assert not {0, 1} & invisible_to_tpe(numbered([None, None] + [0.0] * 400), "minimize")


@pytest.mark.parametrize("kind", SAMPLERS)
def test_suggestions_depend_on_the_seed(kind: str) -> None:
    def first(seed: int) -> dict[str, Any]:
        sampled = Suggester(kind, seed=seed, directions=ONE, trials=[]).sample(suggest)
        assert sampled is not None
        return sampled[0]

    assert first(0) == first(0)
    assert len({str(first(seed)) for seed in range(10)}) > 5


@pytest.mark.parametrize("kind", SAMPLERS)
def test_suggestions_of_one_search_differ(kind: str) -> None:
    assert len({str(values) for values in run(kind, ONE, restart=False)}) > 5


def test_brute_force_tries_each_configuration_once() -> None:
    suggester = Suggester("brute_force", seed=0, directions=ONE, trials=[])
    found = []
    while (sampled := suggester.sample(suggest)) is not None:
        found.append(str(sorted(sampled[0].items())))
        suggester.end(finish(sampled[1], ONE))
    assert len(found) == len(set(found)) == 4 * 4 * (2 + 1 + 1)


def test_start_points_come_first_each_once_also_after_a_restart() -> None:
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
def test_creating_a_sampler_causes_no_warning(kind: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        make_sampler(kind, seed=0, number=0)
    assert not caught
