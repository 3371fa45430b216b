"""`--report`: write and print the report of a search without running it, also while it runs."""

import sys

from rich.console import Console

from tune_jobs.options import LaunchOptions
from tune_jobs.report.files import report_files, write_files
from tune_jobs.report.text import print_result
from tune_jobs.space import SearchSpace
from tune_jobs.study.snapshot import read_snapshot
from tune_jobs.study.store import find_database, study_name
from tune_jobs.terminal.quiet import quiet_libraries
from tune_jobs.tracking.server import resolve_uri
from tune_jobs.tracking.tracker import runs_page


def write_report(space: SearchSpace, options: LaunchOptions) -> int:
    """Write and print the report of the search so far, from the study alone; return the exit code.

    Raises `BadInputError` if the search was not started, `StorageError` if its database cannot be used.
    """
    quiet_libraries()
    folder = (options.output / space.name).resolve()
    database = find_database(options.study_storage, folder, flag="--report")
    try:
        snapshot = read_snapshot(database, study_name(space))
    finally:
        database.close()
    tracking = runs_page(resolve_uri(options.tracking_uri), search=space.name)
    console = Console(file=sys.stdout, soft_wrap=True)
    notes = write_files(folder, report_files(snapshot))
    print_result(console, snapshot, folder, tracking=tracking, options=options)
    for line in notes:
        print(line, file=sys.stderr)
    return 0
