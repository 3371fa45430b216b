"""Start a search, or go on with it: `python launch.py --space search_spaces/exit_position.yaml`."""

import os
import sys
import traceback
from collections.abc import Sequence

from selfcon.errors import ConfigError, SelfConError, nearest
from tune_jobs.errors import BadInputError, SearchError
from tune_jobs.flags import make_parser
from tune_jobs.options import ENVIRONMENT, INSTEAD, LaunchOptions, closing_line
from tune_jobs.urls import (
    DATABASES,
    S3_SETTINGS,
    holds_password,
    is_checkpoint_storage,
    is_database,
    masked,
    masked_uri,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what the command line asks for and return the exit code."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
    except SearchError as error:
        return _failed(str(error), error.exit_code)
    try:
        return _launch(options)
    except SearchError as error:
        return _failed(str(error), error.exit_code, options, resumable=error.resumable)
    except SelfConError as error:
        return _failed(str(error), 1, options)
    except KeyboardInterrupt:
        return _failed("interrupted", 130, options, resumable=True)
    except Exception as error:  # a fault of ours is one line too
        hint = "" if options.debug else " (--debug shows where)"
        return _failed(f"{type(error).__name__}: {error}{hint}", 1, options)


def parse(arguments: Sequence[str]) -> LaunchOptions:
    """Return the flags, completed from the environment. Raises `BadInputError`, or exits for --help."""
    parser = make_parser()
    flags, unknown = parser.parse_known_args(arguments)
    if unknown:
        known = [flag for action in parser._actions for flag in action.option_strings]
        hint = nearest(unknown[0].partition("=")[0], known)
        raise BadInputError(str(ConfigError(unknown[0], "a flag that --help lists", "an unknown one", hint)))
    instead = [flag for flag in INSTEAD if getattr(flags, flag) != parser.get_default(flag)]
    if len(instead) > 1:
        given = " and ".join(f"--{flag.replace('_', '-')}" for flag in instead)
        raise BadInputError(f"expected one of the flags instead of running a search, got {given}")
    if flags.compare and flags.space is not None:
        raise BadInputError(f"--compare: expected no --space beside it, got {flags.space}")
    if flags.space is None and not (flags.compare or flags.doctor):
        raise BadInputError("--space: expected a search-space file, got none")
    if len(flags.compare) == 1:
        raise BadInputError(f"--compare: expected the names of two searches or more, got {flags.compare[0]}")
    from_environment = []
    for field, variable in ENVIRONMENT.items():
        given = getattr(flags, field)
        if given and holds_password(given):
            expected = f"a URI without a password, which the process list would show (set {variable} instead)"
            raise BadInputError(
                str(ConfigError(f"--{field.replace('_', '-')}", expected, "one with a password"))
            )
        if not given and os.environ.get(variable):
            from_environment.append(field)
        setattr(flags, field, given or os.environ.get(variable) or None)
    if flags.study_storage is not None and not is_database(flags.study_storage):
        raise BadInputError(_other_database(flags.study_storage, from_environment))
    if flags.checkpoint_storage is not None and not is_checkpoint_storage(flags.checkpoint_storage):
        raise BadInputError(_other_storage(flags.checkpoint_storage, from_environment))
    values = vars(flags) | {"overrides": tuple(flags.overrides), "compare": tuple(flags.compare)}
    return LaunchOptions(**values, from_environment=tuple(from_environment))


def _other_database(url: str, from_environment: Sequence[str]) -> str:
    key = ENVIRONMENT["study_storage"] if "study_storage" in from_environment else "--study-storage"
    hint = nearest(url.partition(":")[0], DATABASES)
    return str(
        ConfigError(
            key, "sqlite:///FILE, or postgresql:// or mysql://USER@HOST/DATABASE", masked_uri(url), hint
        )
    )


def _other_storage(place: str, from_environment: Sequence[str]) -> str:
    is_variable = "checkpoint_storage" in from_environment
    key = ENVIRONMENT["checkpoint_storage"] if is_variable else "--checkpoint-storage"
    expected = (
        f"a path, or s3://BUCKET/PATH with {', '.join(sorted(S3_SETTINGS))} alone"
        " (keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on each node)"
    )
    return str(ConfigError(key, expected, masked_uri(place)))


def _launch(options: LaunchOptions) -> int:
    if options.doctor:
        from tune_jobs.doctor.examination import examine

        return examine(options)
    # Validation and the dry run answer at once: what is heavy is imported after them.
    if options.compare:
        from tune_jobs.commands.compare import compare_searches

        return compare_searches(options)
    assert options.space is not None
    from tune_jobs.commands.preflight import preflight
    from tune_jobs.space import load_space

    space = load_space(options.space, overrides=options.overrides, name=options.name)
    if options.report:  # what is there can be reported on any machine
        from tune_jobs.commands.show_report import write_report

        return write_report(space, options)
    preflight(space, options)
    if options.reproduce is not None:
        from tune_jobs.commands.reproduce import reproduce

        return reproduce(space, options)
    if options.dry_run:
        from tune_jobs.commands.dry_run import dry_run, is_begun

        taken = []
        if space.start_from is not None and not is_begun(space, options):
            from tune_jobs.commands.other_searches import points_to_take

            taken = points_to_take(space, options)
        print(dry_run(space, options, taken=taken))
        return 0
    if sys.stdout is not None and sys.stdout.isatty():  # the libraries take some seconds
        print(f"{space.name}: starting", flush=True)
    from tune_jobs.commands.search import run_search

    return run_search(space, options)


def _failed(
    message: str, exit_code: int, options: LaunchOptions | None = None, *, resumable: bool = False
) -> int:
    """Show one line of cause, and the command to go on with where that may work."""
    if options is not None and options.debug:
        print(masked(traceback.format_exc()), file=sys.stderr, end="")
    print(closing_line(message, options, resumable=resumable), file=sys.stderr)
    return exit_code


if __name__ == "__main__":
    sys.exit(main())
