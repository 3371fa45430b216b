"""What is tried next: Optuna's samplers by name, each suggestion a function of the study and of its number.

Optuna draws a trial in many writes, some samplers keep counters, generations or optimisers of their own in
the study, and one that is built again with the seed of the search repeats its first suggestions. So a trial
is drawn in memory, on a copy of the study that holds no more than samplers read, by a sampler made for this
one trial with a seed of the search's and the trial's number; what came out is then stored in one write.
"""

import hashlib
import heapq
import warnings
from collections.abc import Callable, Container, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler
from optuna.trial import FrozenTrial, TrialState

from tune_jobs.space.domains import Suggests
from tune_jobs.space.yaml_scalars import Scalar
from tune_jobs.study.records import Direction

# Optuna's is 50: a search of that many trainings is a long one, and would draw all of them at random.
POPULATION_SIZE = 20

# TPE takes a tenth of the trials for good ones, but never more than NUM_GOOD (Optuna's); from NUM_REMEMBERED
# trials on that many are, and it weighs the others less the older they are. So with the good ones and the
# latest others it has the same good ones as with all (where that many are COMPLETE and keep their
# constraints), in a time that does not grow with the search.
NUM_GOOD = 25
NUM_REMEMBERED = 250


def make_sampler(kind: str, *, seed: int, number: int) -> BaseSampler:
    """Return the sampler that suggests trial `number` of a search with this seed.

    Grouped TPE samples the parameters of a conditional space jointly where they are active together; nsga2,
    gp and cmaes so treat only what every trial has, and draw the rest at random, as cmaes draws choices. tpe
    and cmaes learn from pruned trials too, nsga2 and gp from complete ones.
    """
    own_seed = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])
    with warnings.catch_warnings():
        # `group`, `consider_pruned_trials`, and brute force as a whole
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _SAMPLERS[kind](own_seed, seed, number)


class _NumberedQmcSampler(optuna.samplers.QMCSampler):
    """Takes the point of the trial's number, where Optuna counts points in the study beside the trials."""

    def __init__(self, own_seed: int, seed: int, number: int) -> None:
        super().__init__(
            scramble=True,
            seed=seed,  # one sequence for the whole search
            independent_sampler=optuna.samplers.RandomSampler(seed=own_seed),
            warn_independent_sampling=False,
        )
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, Any]) -> int:
        return self._number


class _OrderedNsgaSampler(optuna.samplers.NSGAIISampler):
    """Has the parents in the order of their numbers always, where Optuna's first call has another order."""

    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


# From the trial's own seed, the search's, and the trial's number.
_SAMPLERS: Mapping[str, Callable[[int, int, int], BaseSampler]] = {
    "tpe": lambda own_seed, *_: optuna.samplers.TPESampler(
        seed=own_seed, multivariate=True, group=True, constant_liar=True
    ),
    "random": lambda own_seed, *_: optuna.samplers.RandomSampler(seed=own_seed),
    "gp": lambda own_seed, *_: optuna.samplers.GPSampler(seed=own_seed, warn_independent_sampling=False),
    "cmaes": lambda own_seed, *_: optuna.samplers.CmaEsSampler(
        seed=own_seed, consider_pruned_trials=True, warn_independent_sampling=False
    ),
    "qmc": _NumberedQmcSampler,
    "nsga2": lambda own_seed, *_: _OrderedNsgaSampler(seed=own_seed, population_size=POPULATION_SIZE),
    "brute_force": lambda own_seed, *_: optuna.samplers.BruteForceSampler(seed=own_seed),
}


class _Memory(optuna.storages.InMemoryStorage):
    """Trials in memory, of which samplers do not see those that are forgotten."""

    def __init__(self) -> None:
        super().__init__()
        self.forgotten: frozenset[int] = frozenset()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial.number not in self.forgotten]


def forgettable(trials: Sequence[FrozenTrial], direction: Direction) -> frozenset[int]:
    """Return the numbers of the trials that TPE does without: old, finished and not among the best.

    Of the trials that are COMPLETE or PRUNED it keeps 250: the 25 best that keep their constraints, and the
    latest others.
    """
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(finished) <= NUM_REMEMBERED:
        return frozenset()
    sign = 1 if direction == "minimize" else -1
    feasible = [
        trial
        for trial in finished
        if trial.state == TrialState.COMPLETE and all(v <= 0 for v in trial.constraints.values())
    ]
    good = {t.number for t in heapq.nsmallest(NUM_GOOD, feasible, key=lambda trial: sign * trial.values[0])}
    others = [trial.number for trial in finished if trial.number not in good]
    return frozenset(others[: len(finished) - NUM_REMEMBERED])


class Suggester:
    """Draws new trials, on a copy in memory of what the study holds.

    `trials` are all of the study by number, `directions` those of its objectives. Who draws a trial stores
    it under the number it has here, and says by `end` how it ended.
    """

    def __init__(
        self, kind: str, *, seed: int, directions: Sequence[Direction], trials: Sequence[FrozenTrial]
    ) -> None:
        self._kind, self._seed = kind, seed
        self._directions = directions
        self._storage = _Memory()
        self._study = optuna.create_study(storage=self._storage, directions=list(directions))
        for trial in trials:
            self._study.add_trial(_bare(trial))
        self._started = [t.system_attrs["fixed_params"] for t in trials if "fixed_params" in t.system_attrs]

    def sample(
        self, suggest: Callable[[Suggests], dict[str, Any]], *, start: Sequence[Mapping[str, Scalar]] = ()
    ) -> tuple[dict[str, Any], FrozenTrial] | None:
        """Return the parameters that `suggest` asks for, and the trial as Optuna is to store it.

        The first of the `start` points that was not tried yet is. Returns None, from then on, when brute
        force has tried all there is.
        """
        self._storage.forgotten = frozenset()
        trials = self._study.get_trials(deepcopy=False)
        number = len(trials)
        if self._kind == "tpe" and len(self._directions) == 1:
            self._storage.forgotten = forgettable(trials, self._directions[0])
        self._study.sampler = make_sampler(self._kind, seed=self._seed, number=number)
        for point in start:
            if point not in self._started:
                self._started.append(dict(point))
                self._study.enqueue_trial(dict(point))
                break
        trial = self._study.ask()
        parameters = suggest(trial)
        drawn = self._storage.get_trial(trial._trial_id)
        if self._kind == "brute_force" and self._was_tried(drawn):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return None
        return parameters, drawn

    def end(self, trial: FrozenTrial) -> None:
        """Take over how a trial that was drawn here, or given at the start, has ended."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, trial.number)
        for step, value in trial.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        for key, value in trial.system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, trial.state, trial.values)

    def _was_tried(self, drawn: FrozenTrial) -> bool:
        others = self._study.get_trials(deepcopy=False)
        return any(other.params == drawn.params for other in others if other.number != drawn.number)


def _bare(trial: FrozenTrial) -> FrozenTrial:
    """A trial without the attributes of ours, which no sampler reads."""
    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )
