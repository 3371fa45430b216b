"""Parser of the command line: flags, completed from environment variables and checked, as `LaunchOptions`."""

import os
from argparse import Namespace
from collections.abc import Sequence
from dataclasses import fields

from selfcon.errors import ConfigError, nearest
from tune_jobs.errors import BadInputError
from tune_jobs.flags import Parser, make_parser
from tune_jobs.options import ENVIRONMENT, MODES, LaunchOptions, flag_of
from tune_jobs.urls import (
    DATABASES,
    S3_SETTINGS,
    holds_password,
    is_checkpoint_storage,
    is_database,
    masked_uri,
)


def parse(arguments: Sequence[str], *, program: str = LaunchOptions.program) -> LaunchOptions:
    """Return the options of a command line. Raises `BadInputError`, or exits for --help and --version.

    `program` is the command that started this process; printed commands begin with it.
    """
    parser = make_parser()
    flags, unknown = parser.parse_known_args(arguments)
    if unknown:
        hint = nearest(unknown[0].partition("=")[0], parser.flags)
        raise BadInputError(str(ConfigError(unknown[0], "a flag that --help lists", "an unknown one", hint)))
    _check_combination(flags, parser)
    from_environment = tuple(_complete(flags))
    _check_places(flags, from_environment)
    given = {field.name: getattr(flags, field.name) for field in fields(LaunchOptions) if field.name in flags}
    given |= {"overrides": tuple(flags.overrides), "compare": tuple(flags.compare)}
    return LaunchOptions(**given, program=program, from_environment=from_environment)


def _check_combination(flags: Namespace, parser: Parser) -> None:
    instead = [flag for flag in MODES if getattr(flags, flag) != parser.get_default(flag)]
    if len(instead) > 1:
        given = " and ".join(map(flag_of, instead))
        raise BadInputError(f"expected one of the flags instead of running a search, got {given}")
    if flags.compare and flags.space is not None:
        raise BadInputError(f"--compare: expected no --space in addition, got {flags.space}")
    if flags.space is None and not (flags.compare or flags.doctor):
        raise BadInputError("--space: expected a search-space file, got none")
    if len(flags.compare) == 1:
        raise BadInputError(f"--compare: expected the names of two searches or more, got {flags.compare[0]}")


def _complete(flags: Namespace) -> list[str]:
    """Set missing options from environment variables, and return the names of these fields."""
    completed = []
    for field, variable in ENVIRONMENT.items():
        given = getattr(flags, field)
        if given and holds_password(given):
            expected = f"a URI without a password, which the process list would show (set {variable} instead)"
            raise BadInputError(str(ConfigError(flag_of(field), expected, "one with a password")))
        if not given and os.environ.get(variable):
            completed.append(field)
        setattr(flags, field, given or os.environ.get(variable) or None)
    return completed


def _check_places(flags: Namespace, from_environment: Sequence[str]) -> None:
    def key(field: str) -> str:
        return ENVIRONMENT[field] if field in from_environment else flag_of(field)

    database, storage = flags.study_storage, flags.checkpoint_storage
    if database is not None and not is_database(database):
        expected = "sqlite:///FILE, or postgresql:// or mysql://USER@HOST/DATABASE"
        hint = nearest(database.partition(":")[0], DATABASES)
        raise BadInputError(str(ConfigError(key("study_storage"), expected, masked_uri(database), hint)))
    if storage is not None and not is_checkpoint_storage(storage):
        expected = (
            f"a path, or s3://BUCKET/PATH with {', '.join(sorted(S3_SETTINGS))} alone"
            " (keys come from AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY on each node)"
        )
        raise BadInputError(str(ConfigError(key("checkpoint_storage"), expected, masked_uri(storage))))
