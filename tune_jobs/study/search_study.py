"""Durable state of a search: an Optuna study, the single source of truth.

`trial_study.py` schedules, records and finishes trials. This module samples and prunes them, selects the
winner, and decides when the search is over.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from tune_jobs.errors import NoSuccessError
from tune_jobs.space import SearchSpace
from tune_jobs.space.start_points import StartPoint
from tune_jobs.study.confirmation import Confirmation
from tune_jobs.study.database.database import Database
from tune_jobs.study.failures import common_failure
from tune_jobs.study.fingerprint import check_immutable_settings
from tune_jobs.study.pruning import prune_reason
from tune_jobs.study.records import Reason, State, TrialRecord, as_json
from tune_jobs.study.selection import pareto_front, ranked
from tune_jobs.study.snapshot import ABOUT, LAUNCH, NUM_TRIALS, PUBLICATION, Snapshot, snapshot_of
from tune_jobs.study.store import StudyStore, now_ms, study_name
from tune_jobs.study.trial_sampler import EXHAUSTED, TrialSampler, warm_start_key
from tune_jobs.study.trial_study import Attempt, Decision, TrialStudy

__all__ = ["Attempt", "Decision", "SearchStudy"]

MAX_REFUSED_IN_A_ROW = 1000


class SearchStudy(TrialStudy):
    """Samples, schedules, records, prunes and finishes the trials of one search.

    `database` may be its URL; the study is called `<experiment>/<name>`. If the space has `confirm`,
    `confirmation` repeats the best trials with further seeds, in a second study. Raises `StorageError` if the
    database cannot be used, and `BadInputError` if an immutable setting differs from the stored one.
    """

    def __init__(self, database: Database | str, space: SearchSpace, *, data_digest: str) -> None:
        store = StudyStore(
            database,
            name=study_name(space),
            directions=[objective.direction for objective in space.objectives],
        )
        super().__init__(store, space)
        self._sampler = TrialSampler(store, space)
        self._launch: tuple[str, dict[str, Any]] | None = None
        self._about: dict[str, Any] = {}
        check_immutable_settings(
            store, {**space.immutable_settings(), "data_digest": data_digest}, name=space.name
        )
        self.confirmation = (
            Confirmation(database, space, space.confirm, ranked=self.ranked, heartbeat=self.heartbeat)
            if space.confirm
            else None
        )

    # --- queries -------------------------------------------------------------------------------------------

    @property
    def stages(self) -> tuple[TrialStudy, ...]:
        """The stages of the search, in order: the search itself, then its confirmation."""
        return (self,) if self.confirmation is None else (self, self.confirmation)

    @property
    def plan(self) -> str:
        """Number of trials, as text."""
        return f"{self.num_trials} trials"

    @property
    def num_planned(self) -> int:
        """The largest total requested so far; a budget may end the search earlier."""
        return self.num_trials

    @property
    def num_trials(self) -> int:
        """The largest total requested so far."""
        return int(self._store.attribute(NUM_TRIALS, 0))

    def record_launch(
        self, *, data: Mapping[str, Any], environment: Mapping[str, str], commit: str | None
    ) -> None:
        """Record a launch with its environment, and the current mutable settings of the space file.

        `data` has the name of the data set, `num_images` of its splits, and `num_classes`.
        """
        self._about = {"data": dict(data)}
        self._store_mutable_settings()
        number = len(self.snapshot().launches) + 1
        self._launch = (
            f"{LAUNCH}{number:04d}",
            {
                "started_ms": now_ms(),
                "commit": commit,
                "environment": dict(environment),
            },
        )
        self.heartbeat()

    def heartbeat(self) -> None:
        """Record that the launch is alive."""
        if self._launch is not None:
            key, launch = self._launch
            self._store.set_attribute(key, {**launch, "last_seen_ms": now_ms()})

    def spend(self, seconds: float) -> None:
        """Add wall-clock time of a launch, and record a heartbeat."""
        super().spend(seconds)
        self.heartbeat()

    def snapshot(self) -> Snapshot:
        """Return the current state of the search as plain values."""
        confirmation = self.confirmation
        store = None if confirmation is None else confirmation.store
        return snapshot_of(self._store, store, about=self._mutable_settings())

    def _store_mutable_settings(self) -> None:
        self._store.set_attribute(ABOUT, as_json({**self._about, **self._mutable_settings()}))

    def _mutable_settings(self) -> dict[str, Any]:
        """The mutable part of the space file, and whether the search is over."""
        space = self._space
        return {
            "description": space.description,
            "confirm": space.confirm and space.confirm.model_dump(),
            "trial": space.trial.model_dump(mode="json"),
            "tracking": space.tracking.model_dump(),
            "is_over": all(stage.finished for stage in self.stages),
        }

    def set_num_trials(self, num_trials: int) -> None:
        """Request a total number of trials; one below the current total changes nothing."""
        if num_trials > self.num_trials:
            self._store.set_attribute(NUM_TRIALS, num_trials)

    @property
    def finished(self) -> bool:
        """Whether all requested trials, or all trials of an exhausted space, have ended."""
        return self._has_enough and all(record.state != State.RUNNING for record in self.records())

    @property
    def common_failure(self) -> str | None:
        """The error if all ended trials, at least three, failed with the same one; None otherwise.

        It ends the search. This is final: after a fix, the search needs another name.
        """
        return common_failure(self.records())

    def ranked(self) -> list[TrialRecord]:
        """Return the candidates for the winner by their own values, best first: see `selection.ranked`."""
        return ranked(self.records(), self._space.objectives)

    def winner(self) -> TrialRecord | None:
        """Return the winner; None if no COMPLETE trial satisfies every constraint.

        With several objectives it is the trial of the Pareto front that is best in the first one. With
        `confirm` it is the best by the mean over the seeds.
        """
        if self.confirmation is not None:
            return self.confirmation.winner()
        return next(iter(self.ranked()), None)

    def pareto_front(self) -> list[TrialRecord]:
        """Return the Pareto front of the COMPLETE trials that satisfy every constraint."""
        return pareto_front(self.records(), self._space.objectives)

    def all_records(self) -> list[TrialRecord]:
        """Return all trials by number, then all repetitions of the confirmation."""
        return [record for stage in self.stages for record in stage.records()]

    @property
    def has_warm_start(self) -> bool:
        """Whether the warm start of `start_from` was added."""
        return self._store.attribute(warm_start_key(self._space.start_from)) is not None

    def add_warm_start(self, points: Sequence[StartPoint]) -> None:
        """Add start points from another search, after those of the space file. Only the first call has an
        effect."""
        encoded = [dict(point.encoded) for point in points]
        self._store.set_attribute(warm_start_key(self._space.start_from), encoded)

    def remember_run_of(self, record: TrialRecord, run_id: str) -> None:
        """Store the MLflow run of one of `all_records`."""
        stage = self if record.confirms is None else self.confirmation
        assert stage is not None
        stage.remember_run(record.number, run_id)

    def publication(self) -> dict[str, Any] | None:
        """Return the value of `set_publication`, None before its call."""
        found: dict[str, Any] | None = self._store.attribute(PUBLICATION)
        return found

    def set_publication(self, publication: Mapping[str, Any]) -> None:
        """Store the registered version and the test metrics of the winner."""
        self._store.set_attribute(PUBLICATION, as_json(publication))

    @property
    def is_published(self) -> bool:
        """Whether the winner of the requested trials is published and MLflow has all records."""
        is_finished = all(stage.finished for stage in self.stages)
        return is_finished and self._store.attribute("concluded_at") == self._published_state

    def record_end(self) -> None:
        """Record that all requested trials have ended, before their publication."""
        self._store_mutable_settings()
        self.heartbeat()

    def mark_published(self) -> None:
        """Record that the winner of the requested trials is published and MLflow has all records."""
        self._store.set_attribute("concluded_at", self._published_state)

    @property
    def _published_state(self) -> dict[str, Any]:
        confirm = self._space.confirm
        return {"trials": self._num_counted, "confirm": confirm and confirm.model_dump()}

    @property
    def spent_budget(self) -> str | None:
        """The budget that is used up, as text: no new trial starts, unfinished ones are completed.

        The confirmation counts towards no budget.
        """
        search = self._space.search
        if search.time_budget_s is not None and self.spent_s >= search.time_budget_s:
            return f"search.time_budget of {search.time_budget}"
        if search.accelerator_hours is not None and self._accelerator_hours() >= search.accelerator_hours:
            return f"search.accelerator_hours of {search.accelerator_hours:g}"
        return None

    def _accelerator_hours(self) -> float:
        return math.fsum(record.newest("cost/accelerator_hours") or 0.0 for record in self.records())

    @property
    def _has_enough(self) -> bool:
        exhausted = bool(self._store.attribute(EXHAUSTED))
        return self._num_counted >= self.num_trials or exhausted or self.spent_budget is not None

    @property
    def _num_counted(self) -> int:
        return sum(record.counts for record in self.records())

    # --- new trials and pruning ----------------------------------------------------------------------------

    def _start_trial(self, num_workers: int) -> int | None:
        """Sample a trial, unless the search needs no more.

        Raises `NoSuccessError` if 1,000 configurations in a row were refused, or if no trial runs and all
        ended ones, at least three, failed with the same error.
        """
        if self.common_failure:
            if self._live:
                return None
            raise NoSuccessError(self.common_failure)
        for _ in range(MAX_REFUSED_IN_A_ROW):
            if self._has_enough:
                return None
            number = self._sampler.sample(num_workers)
            if number is not None:
                return number
        raise NoSuccessError(
            f"{MAX_REFUSED_IN_A_ROW} configurations in a row were refused: see `forbid` in the space file"
        )

    def _prune_reason(self, record: TrialRecord) -> Reason | None:
        return prune_reason(
            record, self.records(), pruner=self._space.pruner, objective=self._space.objective
        )

    def _on_trial_end(self, record: TrialRecord) -> None:
        self._sampler.end(record)
