"""Optuna's samplers by name; each suggestion is a function of the study and of the trial number.

Optuna samples a trial in many writes, some samplers store counters, generations or optimisers in the study,
and a sampler that is created again with the seed of the search repeats its first suggestions. Therefore each
trial is sampled in memory, on a copy of the study with only what samplers read, by a new sampler whose seed
is derived from the seed of the search and the trial number. The result is then stored in one write.
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

# Optuna's default is 50: a search with fewer trials would be sampled entirely at random.
POPULATION_SIZE = 20

# TPE treats a tenth of the trials as good, at most NUM_GOOD (Optuna's default), and gives older bad trials
# less weight. With the good trials and the latest others it has the same good trials as with all (if that
# many are COMPLETE and feasible), in a time that does not grow with the search.
NUM_GOOD = 25
NUM_VISIBLE = 250


def make_sampler(kind: str, *, seed: int, number: int) -> BaseSampler:
    """Return the sampler that suggests trial `number` of a search with this seed.

    Grouped TPE samples the parameters of a conditional space jointly if they are active together. nsga2, gp
    and cmaes model only the parameters that every trial has, and sample the others at random; cmaes samples
    choices at random too. tpe and cmaes use pruned trials, nsga2 and gp only complete ones.
    """
    trial_seed = int.from_bytes(hashlib.sha256(f"{seed}/{number}".encode()).digest()[:4])
    with warnings.catch_warnings():
        # `group`, `consider_pruned_trials`, and the brute-force sampler
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return _SAMPLERS[kind](trial_seed, seed, number)


class _NumberedQmcSampler(optuna.samplers.QMCSampler):
    """QMC sampler that uses the point of the trial number; Optuna's stores a counter in the study."""

    def __init__(self, trial_seed: int, seed: int, number: int) -> None:
        super().__init__(
            scramble=True,
            seed=seed,  # one sequence for the entire search
            independent_sampler=optuna.samplers.RandomSampler(seed=trial_seed),
            warn_independent_sampling=False,
        )
        self._number = number

    def _find_sample_id(self, study: optuna.Study, search_space: dict[str, Any]) -> int:
        return self._number


class _OrderedNsgaSampler(optuna.samplers.NSGAIISampler):
    """NSGA-II sampler with parents always ordered by number; in Optuna the first call has another order."""

    def select_parent(self, study: optuna.Study, generation: int) -> list[FrozenTrial]:
        return sorted(super().select_parent(study, generation), key=lambda trial: trial.number)


# The seed of the trial, that of the search, and the trial number.
_SAMPLERS: Mapping[str, Callable[[int, int, int], BaseSampler]] = {
    "tpe": lambda trial_seed, *_: optuna.samplers.TPESampler(
        seed=trial_seed, multivariate=True, group=True, constant_liar=True
    ),
    "random": lambda trial_seed, *_: optuna.samplers.RandomSampler(seed=trial_seed),
    "gp": lambda trial_seed, *_: optuna.samplers.GPSampler(seed=trial_seed, warn_independent_sampling=False),
    "cmaes": lambda trial_seed, *_: optuna.samplers.CmaEsSampler(
        seed=trial_seed, consider_pruned_trials=True, warn_independent_sampling=False
    ),
    "qmc": _NumberedQmcSampler,
    "nsga2": lambda trial_seed, *_: _OrderedNsgaSampler(seed=trial_seed, population_size=POPULATION_SIZE),
    "brute_force": lambda trial_seed, *_: optuna.samplers.BruteForceSampler(seed=trial_seed),
}


class _SamplerStorage(optuna.storages.InMemoryStorage):
    """In-memory storage that does not show samplers the trials `hidden`."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden: frozenset[int] = frozenset()

    def get_all_trials(
        self, study_id: int, deepcopy: bool = True, states: Container[TrialState] | None = None
    ) -> list[FrozenTrial]:
        trials = super().get_all_trials(study_id, deepcopy=deepcopy, states=states)
        return [trial for trial in trials if trial.number not in self.hidden]


def invisible_to_tpe(trials: Sequence[FrozenTrial], direction: Direction) -> frozenset[int]:
    """Return the numbers of the trials that TPE does not read: finished, old, and not among the best.

    It reads 250 COMPLETE or PRUNED trials: the 25 best feasible ones, and the latest of the others.
    """
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    if len(finished) <= NUM_VISIBLE:
        return frozenset()
    sign = 1 if direction == "minimize" else -1
    feasible = [
        trial
        for trial in finished
        if trial.state == TrialState.COMPLETE and all(v <= 0 for v in trial.constraints.values())
    ]
    good = {t.number for t in heapq.nsmallest(NUM_GOOD, feasible, key=lambda trial: sign * trial.values[0])}
    others = [trial.number for trial in finished if trial.number not in good]
    return frozenset(others[: len(finished) - NUM_VISIBLE])


class Suggester:
    """Samples new trials on an in-memory copy of the study.

    `trials` are all trials of the study by number, `directions` those of its objectives. The caller stores a
    sampled trial under the same number, and calls `end` when it ends.
    """

    def __init__(
        self, kind: str, *, seed: int, directions: Sequence[Direction], trials: Sequence[FrozenTrial]
    ) -> None:
        self._kind, self._seed = kind, seed
        self._directions = directions
        self._storage = _SamplerStorage()
        self._study = optuna.create_study(storage=self._storage, directions=list(directions))
        for trial in trials:
            self._study.add_trial(_without_user_attributes(trial))
        self._used_start_points = [
            t.system_attrs["fixed_params"] for t in trials if "fixed_params" in t.system_attrs
        ]

    def sample(
        self, suggest: Callable[[Suggests], dict[str, Any]], *, start: Sequence[Mapping[str, Scalar]] = ()
    ) -> tuple[dict[str, Any], FrozenTrial] | None:
        """Return the parameters that `suggest` samples, and the trial to store in Optuna.

        Start points come first, each once. Returns None after brute force has tried the entire space.
        """
        self._storage.hidden = frozenset()
        trials = self._study.get_trials(deepcopy=False)
        number = len(trials)
        if self._kind == "tpe" and len(self._directions) == 1:
            self._storage.hidden = invisible_to_tpe(trials, self._directions[0])
        self._study.sampler = make_sampler(self._kind, seed=self._seed, number=number)
        for point in start:
            if point not in self._used_start_points:
                self._used_start_points.append(dict(point))
                self._study.enqueue_trial(dict(point))
                break
        trial = self._study.ask()
        parameters = suggest(trial)
        sampled = self._storage.get_trial(trial._trial_id)
        if self._kind == "brute_force" and self._was_tried(sampled):
            self._storage.set_trial_state_values(trial._trial_id, TrialState.FAIL)
            return None
        return parameters, sampled

    def end(self, trial: FrozenTrial) -> None:
        """Copy the final state of a trial from `sample` or from the `trials` of the constructor."""
        trial_id = self._storage.get_trial_id_from_study_id_trial_number(self._study._study_id, trial.number)
        for step, value in trial.intermediate_values.items():
            self._storage.set_trial_intermediate_value(trial_id, step, value)
        for key, value in trial.system_attrs.items():
            self._storage.set_trial_system_attr(trial_id, key, value)
        self._storage.set_trial_state_values(trial_id, trial.state, trial.values)

    def _was_tried(self, sampled: FrozenTrial) -> bool:
        others = self._study.get_trials(deepcopy=False)
        return any(other.params == sampled.params for other in others if other.number != sampled.number)


def _without_user_attributes(trial: FrozenTrial) -> FrozenTrial:
    """The trial with only what samplers read."""
    return optuna.trial.create_trial(
        state=trial.state,
        values=trial.values,
        params=trial.params,
        distributions=trial.distributions,
        system_attrs=trial.system_attrs,
        intermediate_values=trial.intermediate_values,
    )
