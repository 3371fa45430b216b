"""Which checkpoints are removed: older ones of a running trial, and all of most finished trials."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from tune_jobs.study.records import State, TrialRecord

if TYPE_CHECKING:
    from tune_jobs.checkpoints.store import CheckpointStore

NUM_KEPT_CHECKPOINTS = 2  # of a running trial


def removable(
    records: Sequence[TrialRecord],
    ranked: Sequence[TrialRecord],
    *,
    sizes: Mapping[str, int],
    num_protected: int,
    budget_bytes: int,
) -> list[str]:
    """Return the names of the trials whose checkpoints can be removed.

    `records` are all trials and repetitions, `ranked` the candidates for the winner, best first, and `sizes`
    the stored bytes by trial. Checkpoints are kept for running trials, for trials that are not in the study,
    for the best `num_protected` candidates, and for further candidates, best first, up to `budget_bytes` in
    total.
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


def outdated(newest_first: Sequence[str], saved: str) -> Sequence[str]:
    """Return which checkpoints of a running trial can be removed after `saved` was written.

    The newest ones are kept, and so are `saved` and all newer than it, which other attempts wrote.
    """
    return newest_first[max(NUM_KEPT_CHECKPOINTS, newest_first.index(saved) + 1) :]


class Retention:
    """Removes the checkpoints of trials that no longer need them. Idempotent; continues after a kill."""

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
        self._num_protected, self._budget_bytes = num_protected, budget_bytes

    def apply(self) -> None:
        """Remove the checkpoints that are no longer needed. Raises `StorageError`."""
        names = removable(
            self._records(),
            self._ranked(),
            sizes=self._store.trials(),
            num_protected=self._num_protected,
            budget_bytes=self._budget_bytes,
        )
        for trial in names:
            for checkpoint in self._store.names(trial):
                self._store.remove(trial, checkpoint)
