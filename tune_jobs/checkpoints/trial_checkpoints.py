"""Checkpoints of one trial: the newest valid one, and the removal of older ones."""

from collections.abc import Callable, Mapping
from pathlib import Path

from selfcon.checkpoints.folder import checkpoint_name, order_of_checkpoint
from selfcon.checkpoints.state import TrainingState, state_of, verify_payloads
from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError
from tune_jobs.checkpoints.folder import NUM_KEPT_CHECKPOINTS
from tune_jobs.checkpoints.store import CheckpointStore, LocalStore


def open_store(place: str) -> CheckpointStore:
    """Return the store of a folder or an s3:// URI. Raises `StorageError` if it cannot be used."""
    if place.startswith("s3://"):
        from tune_jobs.checkpoints.s3 import ObjectStore

        return ObjectStore(place)
    return LocalStore(Path(place))


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
        """Write a checkpoint, and remove older ones beyond the number to keep.

        Newer ones, written by other attempts, are not removed.
        """
        name = checkpoint_name(epoch=epoch, step=step, attempt=self._attempt)
        self._store.save(self._trial, name, payloads)
        ordered = _newest_first(self._store, self._trial)
        for old in ordered[max(NUM_KEPT_CHECKPOINTS, ordered.index(name) + 1) :]:
            self._store.remove(self._trial, old)


def _newest_first(store: CheckpointStore, trial: str) -> list[str]:
    ordered = [(order_of_checkpoint(name), name) for name in store.names(trial)]
    return [name for order, name in sorted(((o, n) for o, n in ordered if o), reverse=True)]
