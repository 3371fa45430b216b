"""Reproduction of a trial from its record, in a separate study.

It is scheduled and resumed like a trial. The search, its sampler and MLflow do not see it. It ends after the
last epoch of the recorded trial, so that every epoch can be compared.
"""

from typing import Any

import optuna

from selfcon.config import TrainConfig
from tune_jobs.space import SearchSpace
from tune_jobs.study.database.database import Database
from tune_jobs.study.records import Reason, State, TrialRecord, as_json, attempt_key
from tune_jobs.study.store import StudyStore, attempt_start, study_name
from tune_jobs.study.trial_sampler import stored_config
from tune_jobs.study.trial_study import TrialStudy

SUFFIX = "/reproductions"


class Reproduction(TrialStudy):
    """Retrains the trial `original`: resumes an unfinished repetition, else starts a new one."""

    def __init__(self, database: Database | str, space: SearchSpace, original: TrialRecord) -> None:
        directions = [objective.direction for objective in space.objectives]
        store = StudyStore(database, name=f"{study_name(space)}{SUFFIX}", directions=directions)
        super().__init__(store, space)
        self._original = original
        unfinished = [record for record in self._of_the_trial() if record.state == State.RUNNING]
        self._number = unfinished[-1].number if unfinished else None

    @property
    def plan(self) -> str:
        """The reproduced trial and its number of epochs, as text."""
        epochs = self._original.last_epoch
        return f"reproduction of trial {self._original.label}, {epochs} epoch{'' if epochs == 1 else 's'}"

    @property
    def num_planned(self) -> int:
        """One."""
        return 1

    @property
    def finished(self) -> bool:
        """Whether the repetition has ended."""
        return self._number is not None and self.record(self._number).state != State.RUNNING

    def records(self) -> list[TrialRecord]:
        """Return this repetition, if it has started."""
        return [] if self._number is None else [self.record(self._number)]

    def _of_the_trial(self) -> list[TrialRecord]:
        return [r for r in self._store.records() if r.reproduces == self._original.number]

    def _start_trial(self, num_workers: int) -> int | None:
        original = self._original
        if self._number is not None:
            return None
        assert original.config is not None
        attributes: dict[str, Any] = {
            "reproduces": original.number,
            "repetition": len(self._of_the_trial()) + 1,
            "parameters": as_json(original.parameters),
            "config": stored_config(TrainConfig.from_flat(original.config)),
            attempt_key(1): attempt_start(num_workers),
        }
        template = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
        template.number = len(self._store.records())
        self._number = self._store.add_trial(template, attributes, State.RUNNING).number
        return self._number

    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        original = self._original
        is_over = original.state == State.PRUNED and record.last_epoch >= original.last_epoch
        return Reason(original.reason) if is_over and original.reason else None

    def _on_trial_end(self, record: TrialRecord) -> None:
        """Do nothing: no sampler uses reproductions."""
