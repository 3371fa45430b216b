"""The durable state of a search: an Optuna study that everything else follows.

How trials are handed out, recorded and told is `trial_study.py`; here is which trials there are to be, which
end early, which one wins, and when the search is over.
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
    """Asks, hands out, records, prunes and tells the trials of one search.

    `database` may be its URL; the study is called `<experiment>/<name>`. Where the space has `confirm`,
    `confirmation` trains the best trials over more seeds, in a study beside this one. Raises `StorageError`
    where the database cannot be used, `BadInputError` when what is fixed for the life of the name differs
    from what the study was made with.
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

    # --- what is known -------------------------------------------------------------------------------------

    @property
    def stages(self) -> tuple[TrialStudy, ...]:
        """What is trained, one after the other: the search itself, then its confirmation."""
        return (self,) if self.confirmation is None else (self, self.confirmation)

    @property
    def plan(self) -> str:
        """How many trials there are to be."""
        return f"{self.num_trials} trials"

    @property
    def num_planned(self) -> int:
        """The largest total ever asked for; a budget may end the search before."""
        return self.num_trials

    @property
    def num_trials(self) -> int:
        """The largest total ever asked for."""
        return int(self._store.attribute(NUM_TRIALS, 0))

    def record_launch(
        self, *, data: Mapping[str, Any], environment: Mapping[str, str], commit: str | None
    ) -> None:
        """Take note of a launch and what it runs on, and of the free part of the space file as it is now.

        `data` has the name of the data set, `num_images` of its parts and `num_classes`.
        """
        self._about = {"data": dict(data)}
        self._keep_free()
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
        """Take note that the launch lives now."""
        if self._launch is not None:
            key, launch = self._launch
            self._store.set_attribute(key, {**launch, "last_seen_ms": now_ms()})

    def spend(self, seconds: float) -> None:
        """Count wall time of a launch, which lives."""
        super().spend(seconds)
        self.heartbeat()

    def snapshot(self) -> Snapshot:
        """Return the search as it is now, as plain values."""
        confirmation = self.confirmation
        store = None if confirmation is None else confirmation.store
        return snapshot_of(self._store, store, about=self._free())

    def _keep_free(self) -> None:
        self._store.set_attribute(ABOUT, as_json({**self._about, **self._free()}))

    def _free(self) -> dict[str, Any]:
        """What may differ from launch to launch: part of the space file, and whether the search is over."""
        space = self._space
        return {
            "description": space.description,
            "confirm": space.confirm and space.confirm.model_dump(),
            "trial": space.trial.model_dump(mode="json"),
            "tracking": space.tracking.model_dump(),
            "is_over": all(stage.finished for stage in self.stages),
        }

    def set_num_trials(self, num_trials: int) -> None:
        """Ask for a total; a smaller one than before changes nothing."""
        if num_trials > self.num_trials:
            self._store.set_attribute(NUM_TRIALS, num_trials)

    @property
    def finished(self) -> bool:
        """Whether as many trials as asked for, or as there are, have ended and none is left unfinished."""
        return self._has_enough and all(record.state != State.RUNNING for record in self.records())

    @property
    def common_failure(self) -> str | None:
        """Why the search does not go on: its first three trials, or more, all ended FAIL for one reason.

        None where they did not. It stays so on later launches: a search that is mended has another name.
        """
        return common_failure(self.records())

    def ranked(self) -> list[TrialRecord]:
        """Return the trials that may win by their own values, the best first: see `selection.ranked`."""
        return ranked(self.records(), self._space.objectives)

    def winner(self) -> TrialRecord | None:
        """Return the best trial; None without one that is COMPLETE and keeps every constraint.

        With several objectives that is the trial of the Pareto front that is best in the first. Where trials
        are confirmed it is the best of those, by their means over the seeds.
        """
        if self.confirmation is not None:
            return self.confirmation.winner()
        return next(iter(self.ranked()), None)

    def pareto_front(self) -> list[TrialRecord]:
        """Return the COMPLETE trials that keep every constraint and that no other one dominates."""
        return pareto_front(self.records(), self._space.objectives)

    def all_records(self) -> list[TrialRecord]:
        """Return every trial by number, then every run of the confirmation."""
        return [record for stage in self.stages for record in stage.records()]

    @property
    def has_warm_start(self) -> bool:
        """Whether the best trials of the search that `start_from` names were taken over."""
        return self._store.attribute(warm_start_key(self._space.start_from)) is not None

    def add_warm_start(self, points: Sequence[StartPoint]) -> None:
        """Try these first, after what the file names itself; what the other search finds later counts not."""
        taken = [dict(point.encoded) for point in points]
        self._store.set_attribute(warm_start_key(self._space.start_from), taken)

    def remember_run_of(self, record: TrialRecord, run_id: str) -> None:
        """Store the MLflow run of one of `all_records`."""
        stage = self if record.confirms is None else self.confirmation
        assert stage is not None
        stage.remember_run(record.number, run_id)

    def publication(self) -> dict[str, Any] | None:
        """Return what `set_publication` stored of the winner, None before."""
        found: dict[str, Any] | None = self._store.attribute(PUBLICATION)
        return found

    def set_publication(self, publication: Mapping[str, Any]) -> None:
        """Store the registered version and test figures of the winner."""
        self._store.set_attribute(PUBLICATION, as_json(publication))

    @property
    def is_published(self) -> bool:
        """Whether the winner of all that was asked for is published and MLflow has everything."""
        is_finished = all(stage.finished for stage in self.stages)
        return is_finished and self._store.attribute("concluded_at") == self._published_state

    def record_end(self) -> None:
        """Take note that all that was asked for has ended, whatever becomes of its publication."""
        self._keep_free()
        self.heartbeat()

    def mark_published(self) -> None:
        """Take note that the winner of all that was asked for is published and MLflow has everything."""
        self._store.set_attribute("concluded_at", self._published_state)

    @property
    def _published_state(self) -> dict[str, Any]:
        confirm = self._space.confirm
        return {"trials": self._num_counted, "confirm": confirm and confirm.model_dump()}

    @property
    def spent_budget(self) -> str | None:
        """Which budget is used up, in words: no new trial begins, unfinished ones go on to their end.

        What the confirmation takes is counted towards neither budget.
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

    # --- where trials come from, and which end early -------------------------------------------------------

    def _begin(self, num_workers: int) -> int | None:
        """Draw a trial, until the search has enough.

        Raises `NoSuccessError` when 1,000 configurations in a row were refused, and when no trial is left
        running and all that ended, three or more, failed for one reason.
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

    def _has_ended(self, record: TrialRecord) -> None:
        self._sampler.end(record)
