"""The files of a search that people open: the report, the winner as a space file, the table of trials."""

import os
from pathlib import Path

from tune_jobs.artifacts import Files, best_space, made, trials_table
from tune_jobs.report_page.page import report_page
from tune_jobs.snapshot import Snapshot

REPORT, BEST, TRIALS = "report.html", "best.yaml", "trials.csv"


def report_files(snapshot: Snapshot) -> Files:
    """Return the files by their names: without a winner there is no `best.yaml`."""
    winner = snapshot.winner
    counting = [record for record in snapshot.counted if record.config is not None]
    return made(
        {
            REPORT: lambda: report_page(snapshot),
            BEST: lambda: None if winner is None else best_space(snapshot, winner),
            TRIALS: lambda: trials_table(counting),
        }
    )


def write_files(folder: Path, files: Files) -> None:
    """Put the files into a folder, made if it is missing, each whole or not at all."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        unfinished = folder / f".{name}.{os.getpid()}"
        unfinished.write_bytes(content)
        unfinished.replace(folder / name)
