"""Snapshot of a search as plain values, for reports and comparisons.

It is read from the study alone, without the space file, the data or a lock, also while the search runs.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from tune_jobs.errors import BadInputError
from tune_jobs.space.settings import ConfirmSettings, Constraint, Objective, PrunerSettings
from tune_jobs.study.database.database import Database
from tune_jobs.study.fingerprint import FIXED_ATTRIBUTE
from tune_jobs.study.records import TrialRecord, with_tuples
from tune_jobs.study.selection import Candidate, by_mean, candidates_of, pareto_front, ranked
from tune_jobs.study.store import StudyStore, now_ms

ABOUT, LAUNCH, NUM_TRIALS, PUBLICATION, SECONDS = "about", "launch:", "num_trials", "publication", "seconds"
CONFIRM_SUFFIX = "/confirm"


@dataclass(frozen=True)
class Launch:
    """Launch of a search: its start, its last heartbeat, and its environment.

    `environment` has the versions of packages and of the system (see `provenance.py`), `commit` that of the
    code, if known.
    """

    number: int
    started_ms: int
    last_seen_ms: int
    commit: str | None
    environment: Mapping[str, str]


@dataclass(frozen=True)
class DataFacts:
    """Data of a search, with the number of images of the splits `train`, `validation` and `test`."""

    name: str
    digest: str
    num_images: Mapping[str, int]
    num_classes: int


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """State of a search at the time `taken_ms`.

    `space` has each searched parameter by its dotted name with its branches as in the space file, `train` the
    fixed values. `records` are all trials by number, `seeds` the repetitions of the confirmation. `is_over`
    is true if all requested trials and repetitions have ended, or a budget is used up; otherwise the search
    may be running or interrupted. `publication` is None before the winner is registered, `data` is None in
    studies of versions that did not store it. `fixed` has the immutable settings.
    """

    experiment: str
    name: str
    description: str
    objectives: tuple[Objective, ...]
    constraints: tuple[Constraint, ...]
    pruner: PrunerSettings
    confirm: ConfirmSettings | None
    space: Mapping[str, Sequence[Mapping[str, Any]]]
    train: Mapping[str, Any]
    fixed: Mapping[str, Any]
    trial: Mapping[str, Any]
    tracking: Mapping[str, Any]
    data: DataFacts | None
    num_trials: int
    is_over: bool
    spent_s: float
    records: tuple[TrialRecord, ...]
    seeds: tuple[TrialRecord, ...]
    launches: tuple[Launch, ...]
    publication: Mapping[str, Any] | None
    taken_ms: int

    @property
    def objective(self) -> Objective:
        """The first objective, which decides pruning and the winner."""
        return self.objectives[0]

    @property
    def maximize(self) -> bool:
        """Whether the first objective is maximised."""
        return self.objective.direction == "maximize"

    @cached_property
    def counted(self) -> tuple[TrialRecord, ...]:
        """The trials that count towards the total, by number."""
        return tuple(record for record in self.records if record.counts)

    @cached_property
    def complete(self) -> tuple[TrialRecord, ...]:
        """The COMPLETE trials, ordered by the first objective, then by number."""
        sign = -1 if self.maximize else 1
        found = [(sign * r.value, r.number, r) for r in self.records if r.value is not None]
        return tuple(record for *_, record in sorted(found, key=lambda entry: entry[:2]))

    @cached_property
    def ranked(self) -> list[TrialRecord]:
        """The candidates for the winner by their own values, best first: see `selection.ranked`."""
        return ranked(self.records, self.objectives)

    @cached_property
    def ranked_alone(self) -> list[TrialRecord]:
        """The COMPLETE trials that satisfy every constraint, ordered by the first objective."""
        return [record for record in self.complete if record.feasible]

    @cached_property
    def front(self) -> list[TrialRecord]:
        """The Pareto front: see `selection.pareto_front`."""
        return pareto_front(self.records, self.objectives)

    @property
    def trainings(self) -> tuple[TrialRecord, ...]:
        """The trials that count, then the repetitions of the confirmation."""
        return (*self.counted, *self.seeds)

    def total(self, metric: str) -> float:
        """Return the sum of a cumulative cost metric (seconds, accelerator hours) over all trainings."""
        return math.fsum(record.newest(metric) or 0.0 for record in self.trainings)

    @property
    def encoder(self) -> str | None:
        """The registered encoder as text, with its alias and the reason; None before registration."""
        found = self.publication
        if found is None:
            return None
        return f"models:/{found['model']}/{found['version']} ({found['alias']}: {found['why']})"

    @cached_property
    def candidates(self) -> list[Candidate]:
        """The candidates of the confirmation, best first; none before its first repetition starts."""
        if self.confirm is None or not self.seeds:
            return []
        top_k, num_seeds = self.confirm.top_k, self.confirm.seeds
        found = candidates_of(self.ranked[:top_k], self.seeds, num_seeds=num_seeds)
        return by_mean(found, objective=self.objective)

    @cached_property
    def winner(self) -> TrialRecord | None:
        """The best trial so far; None if there is no candidate."""
        if self.candidates:
            return self.candidates[0].trial
        return next(iter(self.ranked), None)


def snapshot_of(
    store: StudyStore, confirmation: StudyStore | None, *, about: Mapping[str, Any] | None = None
) -> Snapshot:
    """Return the snapshot of a study and, if there is one, of the study of its confirmation.

    `about` overrides the mutable settings that the last launch stored.
    """
    experiment, _, name = store.name.partition("/")
    fixed, about = store.attribute(FIXED_ATTRIBUTE, {}), {**store.attribute(ABOUT, {}), **(about or {})}
    objectives = fixed["objective"] if isinstance(fixed["objective"], list) else [fixed["objective"]]
    spent = [each.attribute(SECONDS, 0.0) for each in (store, confirmation) if each is not None]
    return Snapshot(
        experiment=experiment,
        name=name,
        description=about.get("description", ""),
        objectives=tuple(Objective(**objective) for objective in objectives),
        constraints=tuple(Constraint(**constraint) for constraint in fixed.get("constraints", ())),
        pruner=PrunerSettings(**fixed["pruner"]),
        confirm=ConfirmSettings(**about["confirm"]) if about.get("confirm") else None,
        space=fixed["space"],
        train=with_tuples(fixed["train"]),
        fixed=fixed,
        trial=about.get("trial", {}),
        tracking=about.get("tracking", {}),
        data=DataFacts(digest=fixed["data_digest"], **about["data"]) if about.get("data") else None,
        num_trials=int(store.attribute(NUM_TRIALS, 0)),
        is_over=bool(about.get("is_over", False)),
        spent_s=float(sum(spent)),
        records=tuple(store.records()),
        seeds=tuple(confirmation.records()) if confirmation is not None else (),
        launches=_launches(store.attributes()),
        publication=store.attribute(PUBLICATION),
        taken_ms=now_ms(),
    )


def read_snapshot(database: Database, study: str) -> Snapshot:
    """Return the snapshot of the study `<experiment>/<name>` without writing anything.

    Raises `BadInputError` if there is no such search, `StorageError` if the database cannot be used.
    """
    names = study_names(database)
    if study not in names:
        raise BadInputError(f"{database.shown}: expected a search that was started, got no study {study}")
    store = StudyStore(database, name=study)
    if store.attribute(FIXED_ATTRIBUTE) is None:
        raise BadInputError(
            f"{database.shown}: expected a study of a search, got {study}, which has no space"
        )
    confirm = f"{study}{CONFIRM_SUFFIX}"
    return snapshot_of(store, StudyStore(database, name=confirm) if confirm in names else None)


def study_names(database: Database) -> list[str]:
    """Return the sorted names of all studies of a database."""
    with database.storage_errors():
        storage = database.storage()
        return sorted(study.study_name for study in storage.get_all_studies())


def _launches(attributes: Mapping[str, Any]) -> tuple[Launch, ...]:
    found = ((key, value) for key, value in attributes.items() if key.startswith(LAUNCH))
    launches = (Launch(number=int(key.removeprefix(LAUNCH)), **value) for key, value in found)
    return tuple(sorted(launches, key=lambda launch: launch.number))
