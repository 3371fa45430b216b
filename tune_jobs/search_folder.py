"""The folder of a search, `runs/<name>/`: what each file and folder in it is called.

study.db                          the Optuna study, unless it is in a database server
report.html, best.yaml, trials.csv    made from the study, for people to open
ray.log                           what libraries printed
trials/<trial>/                   the files of one trial (checkpoints/folder.py)
"""

from pathlib import Path

STUDY_FILE = "study.db"
REPORT, BEST, TRIALS = "report.html", "best.yaml", "trials.csv"
LIBRARY_LOG = "ray.log"


def trial_folder(search_folder: Path, name: str) -> Path:
    """Return the folder of a trial, by its `name` (`TrialRecord.name`), in the folder of its search."""
    return search_folder / "trials" / name
