"""New trials of a search: sampled, validated, and stored in one write."""

from typing import Any

from selfcon.config import TrainConfig
from selfcon.errors import ConfigError
from tune_jobs.space import SearchSpace
from tune_jobs.study.records import Reason, State, TrialRecord, as_json, attempt_key
from tune_jobs.study.sampling import Suggester
from tune_jobs.study.store import StudyStore, attempt_start

CONFIG_FORMAT = 1
EXHAUSTED = "exhausted"  # attribute of a study whose space is exhausted


class TrialSampler:
    """Samples the trials of one search and stores them. The caller calls `end` when they end.

    The study's trials are loaded when the first trial is sampled: a report needs no sampler.
    """

    def __init__(self, store: StudyStore, space: SearchSpace) -> None:
        self._store, self._space = store, space
        self._suggester: Suggester | None = None

    def sample(self, num_workers: int = 1) -> int | None:
        """Store a new trial with its first attempt, on `num_workers`, and return its number.

        Returns None if `forbid` or TrainConfig refuses it (which is stored too), or if brute force is
        exhausted.
        """
        if self._suggester is None:
            self._suggester = self._load()
        suggestion = self._suggester.sample(self._space.suggest, start=self._start_points())
        if suggestion is None:
            self._store.set_attribute(EXHAUSTED, True)
            return None
        parameters, trial = suggestion
        attributes, state = self._validated(parameters, num_workers)
        record = self._store.add_trial(trial, attributes, state)
        self.end(record)
        return record.number if state == State.RUNNING else None

    def _start_points(self) -> list[dict[str, Any]]:
        """Start points: first those of the space file, then those of another search."""
        warm_start = self._store.attribute(warm_start_key(self._space.start_from), ())
        return [*self._space.start_points(), *warm_start]

    def end(self, record: TrialRecord) -> None:
        """Pass the final state of a trial to later suggestions."""
        if self._suggester is not None and record.state != State.RUNNING:
            self._suggester.end(self._store.trial(record.number))

    def _load(self) -> Suggester:
        return Suggester(
            self._space.search.sampler,
            seed=self._space.search.seed,
            directions=[objective.direction for objective in self._space.objectives],
            trials=self._store.trials(),
        )

    def _validated(self, parameters: dict[str, Any], num_workers: int) -> tuple[dict[str, Any], State]:
        """Attributes of a new trial, and whether it is valid."""
        attributes: dict[str, Any] = {"parameters": as_json(parameters)}
        if self._space.is_forbidden(parameters):
            return attributes | {"reason": Reason.FORBIDDEN.value}, State.FAIL
        try:
            config = self._space.resolve(parameters)
        except ConfigError as error:
            return attributes | {"reason": Reason.INVALID.value, "message": str(error)}, State.FAIL
        attributes |= {"config": stored_config(config), attempt_key(1): attempt_start(num_workers)}
        return attributes, State.RUNNING


def warm_start_key(search: str | None) -> str:
    """Return the attribute of a study with the start points from another search."""
    return f"start_from:{search}"


def stored_config(config: TrainConfig) -> dict[str, Any]:
    """Return the attributes of a trial with its complete configuration."""
    return {"format": CONFIG_FORMAT, "fields": as_json(config.flat())}
