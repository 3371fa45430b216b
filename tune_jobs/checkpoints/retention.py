"""Which checkpoints a search still needs: those of trials that run, and of the best of those that ended."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tune_jobs.study.records import State, TrialRecord

if TYPE_CHECKING:
    from tune_jobs.checkpoints.store import CheckpointStore


def removable(
    records: Sequence[TrialRecord],
    ranked: Sequence[TrialRecord],
    *,
    sizes: Mapping[str, int],
    num_protected: int,
    budget_bytes: int,
) -> list[str]:
    """Return the names of the trials whose checkpoints may go.

    `records` are all trials and seeds, `ranked` those that may win, the best first, and `sizes` the bytes of
    what is stored by trial. A trial that runs, or that the study does not know, keeps its own; so do the best
    `num_protected`, and of the next ones those, best first, that fit `budget_bytes` together.
    """
    kept = {record.name for record in ranked[:num_protected]}
    left = budget_bytes
    for record in ranked[num_protected:]:
        left -= sizes.get(record.name, 0)
        if left < 0:
            break
        kept.add(record.name)
    ended = (record.name for record in records if record.state != State.RUNNING)
    return [name for name in ended if sizes.get(name) and name not in kept]


class Retention:
    """Removes the checkpoints that no one needs any more; a repetition goes on where a killed one was."""

    def __init__(
        self,
        store: CheckpointStore,
        *,
        records: Callable[[], Sequence[TrialRecord]],
        ranked: Callable[[], Sequence[TrialRecord]],
        num_protected: int,
        budget_bytes: int,
    ) -> None:
        self._store, self._records, self._ranked = store, records, ranked
        self._num_needed, self._budget_bytes = num_protected, budget_bytes

    def apply(self) -> None:
        """Remove what is not needed now. Raises `StorageError`."""
        names = removable(
            self._records(),
            self._ranked(),
            sizes=self._store.trials(),
            num_protected=self._num_needed,
            budget_bytes=self._budget_bytes,
        )
        for trial in names:
            for checkpoint in self._store.names(trial):
                self._store.remove(trial, checkpoint)
