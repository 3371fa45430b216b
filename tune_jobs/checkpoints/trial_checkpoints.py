"""The checkpoints of one trial as an attempt sees them: which to go on from, and which it may remove."""

from collections.abc import Callable, Mapping
from pathlib import Path

from selfcon.checkpoints.folder import checkpoint_name, order_of_checkpoint
from selfcon.checkpoints.state import TrainingState, state_of, verify_payloads
from selfcon.config import TrainConfig
from selfcon.errors import CheckpointError
from tune_jobs.checkpoints.folder import NUM_KEPT_CHECKPOINTS
from tune_jobs.checkpoints.store import CheckpointStore, LocalStore


def open_store(place: str) -> CheckpointStore:
    """Return the store at a folder or an s3:// URI. Raises `StorageError` where it cannot be used."""
    if place.startswith("s3://"):
        from tune_jobs.checkpoints.s3 import ObjectStore

        return ObjectStore(place)
    return LocalStore(Path(place))


def newest_valid(
    store: CheckpointStore, trial: str, *, passed_over: Callable[[str, CheckpointError], None] | None = None
) -> str | None:
    """Return the name of a trial's valid checkpoint of the latest moment, or None.

    `passed_over` is told of each newer one that is not valid: its name, and what is wrong.
    """
    for name in _newest_first(store, trial):
        try:
            verify_payloads(store.load(trial, name), source=store.place(trial, name))
        except CheckpointError as error:
            if passed_over is not None:
                passed_over(name, error)
        else:
            return name
    return None


def load_state(store: CheckpointStore, trial: str, name: str, *, config: TrainConfig) -> TrainingState:
    """Return the state that a checkpoint holds. Raises `CheckpointError` for a damaged or foreign one."""
    return state_of(store.load(trial, name), config=config, source=store.place(trial, name))


class TrialCheckpoints:
    """What one attempt of a trial reads and writes; `notes` says once what was passed over."""

    def __init__(self, place: str, *, trial: str, attempt: int) -> None:
        self._store, self._trial, self._attempt = open_store(place), trial, attempt
        self._notes: list[str] = []

    def newest(self) -> str | None:
        """Return the name of the checkpoint to go on from, None where the trial begins."""
        damaged: list[str] = []
        newest = newest_valid(
            self._store,
            self._trial,
            passed_over=lambda name, error: damaged.append(f"checkpoint {name} is damaged ({error})"),
        )
        goes_on = f"goes on from {newest}" if newest else "begins again"
        self._notes = [f"{flaw}, {goes_on}" for flaw in damaged]
        return newest

    def load(self, name: str, *, config: TrainConfig) -> TrainingState:
        """Return the state of a checkpoint, as `load_state` does."""
        return load_state(self._store, self._trial, name, config=config)

    def notes(self) -> dict[str, list[str]]:
        """Return what a report tells beside the metrics: `notes` the first time, if there are any."""
        notes, self._notes = self._notes, []
        return {"notes": notes} if notes else {}

    def save(self, payloads: Mapping[str, bytes], *, epoch: int, step: int = 0) -> None:
        """Write a checkpoint, and remove what is older than it as far as there are more than are kept.

        Newer ones, of attempts that wrote them before or that still run, are left alone.
        """
        name = checkpoint_name(epoch=epoch, step=step, attempt=self._attempt)
        self._store.save(self._trial, name, payloads)
        ordered = _newest_first(self._store, self._trial)
        for old in ordered[max(NUM_KEPT_CHECKPOINTS, ordered.index(name) + 1) :]:
            self._store.remove(self._trial, old)


def _newest_first(store: CheckpointStore, trial: str) -> list[str]:
    ordered = [(order_of_checkpoint(name), name) for name in store.names(trial)]
    return [name for order, name in sorted(((o, n) for o, n in ordered if o), reverse=True)]
