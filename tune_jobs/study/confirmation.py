"""Confirmation of a search: repetitions of its best trials with further seeds, in a separate study.

The trial itself is repetition 0. Repetition i has the same configuration except for `seed`, which is the seed
of the trial plus i. Repetitions are scheduled and resumed like trials. They count neither towards the total
nor the budgets of the search, and its sampler does not see them. They are never pruned. A failed repetition
is not replaced: it is a property of the configuration.
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

    `ranked` returns the candidates for the winner, best first; with several objectives it is the Pareto front
    ordered by the first objective. It is called after the search has ended. `heartbeat` records that the
    launcher is alive. If a trial is no longer among the best, its repetitions are kept, and started ones are
    completed.
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
        """Number of trials and of seeds, as text."""
        return f"confirmation of {len(self._best())} trials over {self._settings.seeds} seeds each"

    @property
    def num_planned(self) -> int:
        """Number of repetitions, including those of trials that are no longer among the best."""
        return len(self.records()) + len(self._missing())

    @property
    def finished(self) -> bool:
        """Whether every repetition has ended."""
        return not self._missing() and all(record.state != State.RUNNING for record in self.records())

    def spend(self, seconds: float) -> None:
        """Add wall-clock time of a launch, and record a heartbeat."""
        super().spend(seconds)
        self._heartbeat()

    def candidates(self) -> list[Candidate]:
        """Return the best trials with their repetitions so far, ranked by `by_mean`."""
        found = candidates_of(self._best(), self.records(), num_seeds=self._settings.seeds)
        return by_mean(found, objective=self._space.objective)

    def winner(self) -> TrialRecord | None:
        """Return the best candidate given the repetitions so far; None if there is no candidate."""
        return next((candidate.trial for candidate in self.candidates()), None)

    def _best(self) -> list[TrialRecord]:
        return self._ranked()[: self._settings.top_k]

    def _missing(self) -> list[tuple[TrialRecord, int]]:
        """Repetitions that have not started: the first of every trial, then the second, and so on."""
        started = {(record.confirms, record.seed_index) for record in self.records()}
        indices, best = range(1, self._settings.seeds), self._best()
        return [(trial, i) for i in indices for trial in best if (trial.number, i) not in started]

    def _start_trial(self, num_workers: int) -> int | None:
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
            template = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
            template.number = len(self.records())
            return self._store.add_trial(template, attributes, State.RUNNING).number
        return None

    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        return None

    def _on_trial_end(self, record: TrialRecord) -> None:
        """Do nothing: no sampler uses repetitions."""
