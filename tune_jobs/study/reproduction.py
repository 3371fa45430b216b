"""A trial trained again from its record, in a study of its own beside the search's.

It is handed out and resumed as trials are, unseen by the search, its sampler and MLflow. It ends where the
recorded one did, so that every epoch has one to be compared with.
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
    """Trains the trial of `original` once more: goes on with a repetition that was left, else begins one."""

    def __init__(self, database: Database | str, space: SearchSpace, original: TrialRecord) -> None:
        directions = [objective.direction for objective in space.objectives]
        store = StudyStore(database, name=f"{study_name(space)}{SUFFIX}", directions=directions)
        super().__init__(store, space)
        self._original = original
        left = [record for record in self._of_the_trial() if record.state == State.RUNNING]
        self._number = left[-1].number if left else None

    @property
    def plan(self) -> str:
        """What is trained again."""
        epochs = self._original.last_epoch
        return f"trial {self._original.label} again, {epochs} epoch{'' if epochs == 1 else 's'}"

    @property
    def num_planned(self) -> int:
        """One."""
        return 1

    @property
    def finished(self) -> bool:
        """Whether the repetition has ended."""
        return self._number is not None and self.record(self._number).state != State.RUNNING

    def records(self) -> list[TrialRecord]:
        """Return this repetition, once it has begun."""
        return [] if self._number is None else [self.record(self._number)]

    def _of_the_trial(self) -> list[TrialRecord]:
        return [r for r in self._store.records() if r.reproduces == self._original.number]

    def _begin(self, num_workers: int) -> int | None:
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
        drawn = optuna.trial.create_trial(state=optuna.trial.TrialState.RUNNING)
        drawn.number = len(self._store.records())
        self._number = self._store.add_trial(drawn, attributes, State.RUNNING).number
        return self._number

    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        original = self._original
        is_over = original.state == State.PRUNED and record.last_epoch >= original.last_epoch
        return Reason(original.reason) if is_over and original.reason else None

    def _has_ended(self, record: TrialRecord) -> None:
        """No sampler learns from it."""
