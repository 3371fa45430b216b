"""The command: `python launch.py`, `selfcon-search` and `python -m tune_jobs` all call `main`.

Help, the refusal of a file and the dry run must answer at once: the commands that need torch, Ray, Optuna or
MLflow are imported where they are called.
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

if TYPE_CHECKING:  # the doctor runs without a single package
    from tune_jobs.space import SearchSpace


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return the exit code; whatever goes wrong ends with one line."""
    options = None
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments, program=_program())
        return _run(options)
    except InterruptedSearchError as error:
        assert options is not None
        print(interrupted_line(options))
        return error.exit_code
    except SearchError as error:
        return _failed(str(error), error.exit_code, options, resumable=error.resumable)
    except SelfConError as error:
        return _failed(str(error), 1, options)
    except KeyboardInterrupt:
        return _failed("interrupted", 130, options, resumable=True)
    except Exception as error:  # an internal error is one line too
        hint = "" if options is not None and options.debug else " (--debug shows where)"
        return _failed(f"{type(error).__name__}: {error}{hint}", 1, options)


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
    if options.report:  # reads the study alone, so it needs no preflight
        from tune_jobs.commands.show_report import write_report

        return write_report(space, options)
    preflight(space, options)
    if options.reproduce is not None:
        from tune_jobs.commands.reproduce import reproduce

        return reproduce(space, options)
    return _dry_run(space, options) if options.dry_run else _search(space, options)


def _dry_run(space: "SearchSpace", options: LaunchOptions) -> int:
    from tune_jobs.commands.dry_run import dry_run, is_begun

    taken = []
    if space.start_from is not None and not is_begun(space, options):
        from tune_jobs.commands.other_searches import warm_start_points

        taken = warm_start_points(space, options)
    print(dry_run(space, options, taken=taken))
    return 0


def _search(space: "SearchSpace", options: LaunchOptions) -> int:
    if sys.stdout is not None and sys.stdout.isatty():  # importing the libraries takes some seconds
        print(f"{space.name}: starting", flush=True)
    from tune_jobs.commands.search import run_search

    return run_search(space, options)


def _program() -> str:
    """How the user started this process, for the commands that are printed."""
    name = Path(sys.argv[0]).name
    if name == "__main__.py":
        return "python -m tune_jobs"
    return name if name == "selfcon-search" else LaunchOptions.program


def _failed(
    message: str, exit_code: int, options: LaunchOptions | None = None, *, resumable: bool = False
) -> int:
    """Print one line with the cause and, if that may work, the command that resumes."""
    if options is not None and options.debug:
        print(masked(traceback.format_exc()), file=sys.stderr, end="")
    print(closing_line(message, options, resumable=resumable), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
