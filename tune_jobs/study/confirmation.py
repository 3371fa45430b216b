"""Chance or not: the best trials of a search trained over more seeds, in a study of their own.

A trial's first seed is the trial itself. Seed i is a run with the same configuration but for `seed`, which is
the trial's plus i; it is handed out and resumed as trials are, outside the search's total and budgets, unseen
by its sampler. No run is pruned, and one that fails stays so: a bad seed is a fact about the configuration.
"""

from collections.abc import Callable

import optuna

from selfcon.config import TrainConfig
from tune_jobs.space import ConfirmSettings, SearchSpace
from tune_jobs.study.database.database import Database
from tune_jobs.study.records import Reason, State, TrialRecord, as_json, attempt_key
from tune_jobs.study.selection import Candidate, by_mean, candidates_of
from tune_jobs.study.store import StudyStore, attempt_start
from tune_jobs.study.trial_sampler import stored_config
from tune_jobs.study.trial_study import TrialStudy


class Confirmation(TrialStudy):
    """Trains the best `top_k` trials of a search until each has `seeds` seeds.

    `ranked` returns the trials that may win, the best first: of several objectives the Pareto front by the
    first of them, so that what is confirmed is what could be registered. They are to be asked for when the
    search has ended. `heartbeat` records that the launcher is alive. Seeds of a trial that is no longer among
    the best stay, and what was begun is ended.
    """

    def __init__(
        self,
        database: Database | str,
        space: SearchSpace,
        settings: ConfirmSettings,
        *,
        ranked: Callable[[], list[TrialRecord]],
        heartbeat: Callable[[], None] = lambda: None,
    ) -> None:
        store = StudyStore(
            database,
            name=f"{space.tracking.experiment}/{space.name}/confirm",
            directions=[objective.direction for objective in space.objectives],
        )
        super().__init__(store, space)
        self._settings, self._ranked, self._heartbeat = settings, ranked, heartbeat

    @property
    def plan(self) -> str:
        """How many trials are trained over how many seeds."""
        return f"confirmation of {len(self._best())} trials over {self._settings.seeds} seeds each"

    @property
    def num_planned(self) -> int:
        """How many seeds there are beside the trials' own, those of trials that were overtaken included."""
        return len(self.records()) + len(self._missing())

    @property
    def finished(self) -> bool:
        """Whether every seed of the best trials has ended, and none is left unfinished."""
        return not self._missing() and all(record.state != State.RUNNING for record in self.records())

    def spend(self, seconds: float) -> None:
        """Count wall time of a launch, which lives."""
        super().spend(seconds)
        self._heartbeat()

    def candidates(self) -> list[Candidate]:
        """Return the best trials with their further seeds as far as they are, ranked by `by_mean`."""
        found = candidates_of(self._best(), self.records(), num_seeds=self._settings.seeds)
        return by_mean(found, objective=self._space.objective)

    def winner(self) -> TrialRecord | None:
        """Return the best of the best trials as far as their seeds are; None where no trial may win."""
        return next((candidate.trial for candidate in self.candidates()), None)

    def _best(self) -> list[TrialRecord]:
        return self._ranked()[: self._settings.top_k]

    def _missing(self) -> list[tuple[TrialRecord, int]]:
        """The seeds not begun yet, in order: one more of each trial before the next of any."""
        begun = {(record.confirms, record.seed_index) for record in self.records()}
        indices, best = range(1, self._settings.seeds), self._best()
        return [(trial, i) for i in indices for trial in best if (trial.number, i) not in begun]

    def _begin(self, num_workers: int) -> int | None:
        for trial, index in self._missing():
            assert trial.config is not None
            seed = {"seed": trial.config["seed"] + index}
            attributes = {
                "confirms": trial.number,
                "seed_index": index,
                "parameters": as_json({**trial.parameters, **seed}),
                "config": stored_config(TrainConfig.from_flat({**trial.config, **seed})),
                attempt_key(1): attempt_start(num_workers),
            }
            drawn = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
            drawn.number = len(self.records())
            return self._store.add_trial(drawn, attributes, State.RUNNING).number
        return None

    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        return None

    def _has_ended(self, record: TrialRecord) -> None:
        """No sampler learns from it."""
