"""Layout of the folder of a search, `runs/<name>/`.

study.db                              the Optuna study, unless it is in a database server
report.html, best.yaml, trials.csv    generated from the study, for users
ray.log                               output of libraries
trials/<trial>/                       files of one trial (checkpoints/folder.py)
"""

from pathlib import Path

STUDY_FILE = "study.db"
REPORT, BEST, TRIALS = "report.html", "best.yaml", "trials.csv"
LIBRARY_LOG = "ray.log"


def trial_folder(search_folder: Path, name: str) -> Path:
    """Return the folder of the trial called `name` (`TrialRecord.name`) in the folder of its search."""
    return search_folder / "trials" / name
