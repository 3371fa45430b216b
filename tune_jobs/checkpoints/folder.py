"""The folder of a trial: where its attempts write, and how many checkpoints a running one keeps.

trials/0007/checkpoints/<epoch>-a<attempt>/            complete checkpoints, ours
trials/0007/checkpoints/<epoch>-s<step>-a<attempt>/    of an attempt that was stopped within an epoch
trials/0007/attempts/<attempt>/                        Ray Train's own files, never read back
trials/0007-seed-1/                                    the same of another seed (confirmation.py)
"""

from collections.abc import Iterable, Sequence

from tune_jobs.errors import StorageError
from tune_jobs.study.records import TrialRecord

NUM_KEPT_CHECKPOINTS = 2


def refuse_unknown_trials(
    stored: Iterable[str], records: Sequence[TrialRecord], *, where: str, database: str
) -> None:
    """Raise `StorageError` for a stored trial that the study does not have: then the study was lost.

    `stored` are the names of the trials that have something in `where`. A search that began anew beside them
    would take their checkpoints for its own.
    """
    unknown = sorted(set(stored) - {record.name for record in records})
    if unknown:
        raise StorageError(
            f"{where}/trials/{unknown[0]}: the study in {database} has no such trial"
            f" (put the lost database back, or move {where}/trials away)"
        )
