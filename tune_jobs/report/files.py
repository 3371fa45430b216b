"""The result files of a search: the report, the winner as a space file, and the table of trials."""

import os
from pathlib import Path

from tune_jobs.report.artifacts import ERROR_SUFFIX, Files, best_space, generate, trials_table
from tune_jobs.report.page.page import report_page
from tune_jobs.search_folder import BEST, REPORT, TRIALS
from tune_jobs.study.snapshot import Snapshot


def report_files(snapshot: Snapshot) -> Files:
    """Return the files by name; `best.yaml` is missing without a winner."""
    winner = snapshot.winner
    counting = [record for record in snapshot.counted if record.config is not None]
    return generate(
        {
            REPORT: lambda: report_page(snapshot),
            BEST: lambda: None if winner is None else best_space(snapshot, winner),
            TRIALS: lambda: trials_table(counting),
        }
    )


def write_files(folder: Path, files: Files) -> list[str]:
    """Write the files into a folder, created if missing, each atomically.

    An error file replaces an older version of the file that could not be generated. Returns a line for each
    file that could not be generated or written.
    """
    lines = []
    for name, content in files.items():
        target = name.removesuffix(ERROR_SUFFIX)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            (folder / (target if target != name else f"{name}{ERROR_SUFFIX}")).unlink(missing_ok=True)
            _write(folder / name, content)
        except OSError as error:
            lines.append(f"note: {folder / name} could not be written: {error.strerror or error}")
        else:
            lines += [f"note: {content.decode().strip()}"] if target != name else []
    return lines


def _write(path: Path, content: bytes) -> None:
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(content)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)
