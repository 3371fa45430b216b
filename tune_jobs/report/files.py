"""The files of a search that people open: the report, the winner as a space file, the table of trials."""

import os
from pathlib import Path

from tune_jobs.report.artifacts import NOT_MADE, Files, best_space, made, trials_table
from tune_jobs.report.page.page import report_page
from tune_jobs.search_folder import BEST, REPORT, TRIALS
from tune_jobs.study.snapshot import Snapshot


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


def write_files(folder: Path, files: Files) -> list[str]:
    """Put the files into a folder, made if it is missing, each whole or not at all.

    Returns a line for each that could not be made or written; one of before does not stay in its place.
    """
    lines = []
    for name, content in files.items():
        made = name.removesuffix(NOT_MADE)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / (made if made != name else f"{name}{NOT_MADE}")).unlink(missing_ok=True)
            _write(folder / name, content)
        except OSError as error:
            lines.append(f"note: {folder / name} could not be written: {error.strerror or error}")
        else:
            lines += [f"note: {content.decode().strip()}"] if made != name else []
    return lines


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
