"""Layout of the folder of a trial.

trials/0007/checkpoints/<epoch>-a<attempt>/            complete checkpoints
trials/0007/checkpoints/<epoch>-s<step>-a<attempt>/    of an attempt stopped within an epoch
trials/0007/attempts/<attempt>/                        files of Ray Train, never read back
trials/0007-seed-1/                                    the same for a repetition (confirmation.py)
"""

from collections.abc import Iterable, Sequence

from tune_jobs.errors import StorageError
from tune_jobs.study.records import TrialRecord


def refuse_unknown_trials(
    stored: Iterable[str], records: Sequence[TrialRecord], *, where: str, database: str
) -> None:
    """Raise `StorageError` if a stored trial is not in the study, because then the study was lost.

    `stored` are the names of the trials with files in `where`. A new search in the same place would resume
    from their checkpoints.
    """
    unknown = sorted(set(stored) - {record.name for record in records})
    if unknown:
        raise StorageError(
            f"{where}/trials/{unknown[0]}: the study in {database} has no such trial"
            f" (restore the lost database, or move {where}/trials away)"
        )
