"""New trials of a search: suggested, checked, and stored in one write."""

from typing import Any

from selfcon.config import TrainConfig
from selfcon.errors import ConfigError
from tune_jobs.space import SearchSpace
from tune_jobs.study.records import Reason, State, TrialRecord, as_json, attempt_key
from tune_jobs.study.sampling import Suggester
from tune_jobs.study.store import StudyStore, attempt_start

CONFIG_FORMAT = 1
EXHAUSTED = "exhausted"  # attribute of a study whose space was tried out


class TrialSampler:
    """Draws the trials of one search and stores them; `end` says how they ended.

    What samplers read is loaded with the first trial that is drawn: a report needs none.
    """

    def __init__(self, store: StudyStore, space: SearchSpace) -> None:
        self._store, self._space = store, space
        self._suggester: Suggester | None = None

    def sample(self, num_workers: int = 1) -> int | None:
        """Store a new trial with its first attempt, on `num_workers`, and return its number.

        None where `forbid` or TrainConfig refuses it, which is stored too, or where brute force has no other.
        """
        if self._suggester is None:
            self._suggester = self._load()
        found = self._suggester.sample(self._space.suggest, start=self._start())
        if found is None:
            self._store.set_attribute(EXHAUSTED, True)
            return None
        parameters, drawn = found
        attributes, state = self._checked(parameters, num_workers)
        record = self._store.add_trial(drawn, attributes, state)
        self.end(record)
        return record.number if state == State.RUNNING else None

    def _start(self) -> list[dict[str, Any]]:
        """What is tried first: the points of the file, then those taken from another search."""
        taken = self._store.attribute(warm_start_key(self._space.start_from), ())
        return [*self._space.start_points(), *taken]

    def end(self, record: TrialRecord) -> None:
        """Let later suggestions know how a trial ended."""
        if self._suggester is not None and record.state != State.RUNNING:
            self._suggester.end(self._store.trial(record.number))

    def _load(self) -> Suggester:
        return Suggester(
            self._space.search.sampler,
            seed=self._space.search.seed,
            directions=[objective.direction for objective in self._space.objectives],
            trials=self._store.trials(),
        )

    def _checked(self, parameters: dict[str, Any], num_workers: int) -> tuple[dict[str, Any], State]:
        """What the study holds of a new trial, and whether it is to be trained."""
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
    """Return the attribute of a study that holds the points taken from another search."""
    return f"start_from:{search}"


def stored_config(config: TrainConfig) -> dict[str, Any]:
    """Return what the study holds of a trial's complete configuration."""
    return {"format": CONFIG_FORMAT, "fields": as_json(config.flat())}
