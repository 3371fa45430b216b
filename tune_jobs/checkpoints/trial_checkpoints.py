"""Checkpoints of one trial: the newest valid one, and how an attempt reads and writes them."""

from collections.abc import Callable, Mapping

from selfcon.checkpoints.folder import checkpoint_name, order_of_checkpoint
from selfcon.checkpoints.state import TrainingState, state_of, verify_payloads
from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError
from tune_jobs.checkpoints.retention import outdated
from tune_jobs.checkpoints.store import CheckpointStore, open_store


def newest_valid(
    store: CheckpointStore, trial: str, *, on_invalid: Callable[[str, CheckpointError], None] | None = None
) -> str | None:
    """Return the name of a trial's newest valid checkpoint, or None.

    `on_invalid` is called with the name and the error of each newer checkpoint that is not valid.
    """
    for name in _newest_first(store, trial):
        try:
            verify_payloads(store.load(trial, name), source=store.location(trial, name))
        except CheckpointError as error:
            if on_invalid is not None:
                on_invalid(name, error)
        else:
            return name
    return None


def load_state(store: CheckpointStore, trial: str, name: str, *, config: TrainConfig) -> TrainingState:
    """Return the state in a checkpoint. Raises `CheckpointError` if it is damaged or of another
    configuration."""
    return state_of(store.load(trial, name), config=config, source=store.location(trial, name))


class TrialCheckpoints:
    """Checkpoints that one attempt of a trial reads and writes; `notes` reports damaged ones once."""

    def __init__(self, place: str, *, trial: str, attempt: int) -> None:
        self._store, self._trial, self._attempt = open_store(place), trial, attempt
        self._notes: list[str] = []

    def newest(self) -> str | None:
        """Return the name of the checkpoint to resume from, None if the trial starts at epoch 0."""
        damaged: list[str] = []
        newest = newest_valid(
            self._store,
            self._trial,
            on_invalid=lambda name, error: damaged.append(f"checkpoint {name} is damaged ({error})"),
        )
        action = f"resuming from {newest}" if newest else "restarting"
        self._notes = [f"{problem}, {action}" for problem in damaged]
        return newest

    def load(self, name: str, *, config: TrainConfig) -> TrainingState:
        """Return the state of a checkpoint, as `load_state` does."""
        return load_state(self._store, self._trial, name, config=config)

    def notes(self) -> dict[str, list[str]]:
        """Return `notes` as an additional entry of the next report, once; empty if there are none."""
        notes, self._notes = self._notes, []
        return {"notes": notes} if notes else {}

    def save(self, payloads: Mapping[str, bytes], *, epoch: int, step: int = 0) -> None:
        """Write a checkpoint, and remove those that `retention.outdated` no longer needs."""
        name = checkpoint_name(epoch=epoch, step=step, attempt=self._attempt)
        self._store.save(self._trial, name, payloads)
        for old in outdated(_newest_first(self._store, self._trial), name):
            self._store.remove(self._trial, old)


def _newest_first(store: CheckpointStore, trial: str) -> list[str]:
    ordered = [(order_of_checkpoint(name), name) for name in store.names(trial)]
    return [name for order, name in sorted(((o, n) for o, n in ordered if o), reverse=True)]
