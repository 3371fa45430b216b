"""Command-line entry point, called by `python launch.py`, `selfcon-search` and `python -m tune_jobs`.

Commands that need torch, Ray, Optuna or MLflow are imported only when they run, so that --help, validation
errors and the dry run respond immediately.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from selfcon.errors import SelfConError
from tune_jobs.commands.command_line import parse
from tune_jobs.errors import InterruptedSearchError, SearchError
from tune_jobs.options import LaunchOptions, closing_line, interrupted_line
from tune_jobs.urls import masked

if TYPE_CHECKING:  # --doctor runs even if no package is installed
    from tune_jobs.space import SearchSpace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; every error is printed as one line."""
    options = None
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments, program=_program())
        return _run(options)
    except InterruptedSearchError as error:
        assert options is not None
        print(interrupted_line(options))
        return error.exit_code
    except SearchError as error:
        return _report_failure(str(error), error.exit_code, options, resumable=error.resumable)
    except SelfConError as error:
        return _report_failure(str(error), 1, options)
    except KeyboardInterrupt:
        return _report_failure("interrupted", 130, options, resumable=True)
    except Exception as error:  # an internal error
        is_shown = options is not None and options.debug
        hint = "" if is_shown else " (internal error; --debug shows the traceback)"
        return _report_failure(f"{type(error).__name__}: {error}{hint}", 1, options)


def _run(options: LaunchOptions) -> int:
    if options.doctor:
        from tune_jobs.doctor.examination import examine

        return examine(options)
    if options.compare:
        from tune_jobs.commands.compare import compare_searches

        return compare_searches(options)
    assert options.space is not None
    from tune_jobs.commands.preflight import preflight
    from tune_jobs.space import load_space

    space = load_space(options.space, overrides=options.overrides, name=options.name)
    if options.report:  # only reads the study, so no preflight is needed
        from tune_jobs.commands.show_report import write_report

        return write_report(space, options)
    preflight(space, options)
    if options.reproduce is not None:
        from tune_jobs.commands.reproduce import reproduce

        return reproduce(space, options)
    return _dry_run(space, options) if options.dry_run else _search(space, options)


def _dry_run(space: "SearchSpace", options: LaunchOptions) -> int:
    from tune_jobs.commands.dry_run import dry_run, is_started

    taken = []
    if space.start_from is not None and not is_started(space, options):
        from tune_jobs.commands.other_searches import warm_start_points

        taken = warm_start_points(space, options)
    print(dry_run(space, options, taken=taken))
    return 0


def _search(space: "SearchSpace", options: LaunchOptions) -> int:
    if sys.stdout is not None and sys.stdout.isatty():  # importing the libraries takes several seconds
        print(f"{space.name}: starting", flush=True)
    from tune_jobs.commands.search import run_search

    return run_search(space, options)


def _program() -> str:
    """Return the command that started this process, for use in printed commands."""
    path = Path(sys.argv[0])
    if path.parts[-2:] == ("tune_jobs", "__main__.py"):
        return "python -m tune_jobs"
    return path.name if path.name == "selfcon-search" else LaunchOptions.program


def _report_failure(
    message: str, exit_code: int, options: LaunchOptions | None = None, *, resumable: bool = False
) -> int:
    """Print one line with the cause and, if the search can be resumed, the command to resume it."""
    if options is not None and options.debug:
        print(masked(traceback.format_exc()), file=sys.stderr, end="")
    print(closing_line(message, options, resumable=resumable), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
