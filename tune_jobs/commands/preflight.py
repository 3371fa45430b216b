"""Checks that a search can run on this machine or cluster, before anything is started or written."""

from pathlib import Path

from tune_jobs.cluster.requirements import (
    check_address,
    check_machine,
    missing_paths,
    needed_paths,
    refuse_missing,
)
from tune_jobs.cluster.resources import machine_resources
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters


def preflight(space: SearchSpace, options: LaunchOptions) -> None:
    """Raise `BadInputError` if a search cannot run: an empty space, insufficient resources, or missing data.

    With an address, the resources and data of the cluster are checked after connecting to it.
    """
    example_parameters(space, 1)
    check_output(options.output / space.name)
    check_address(options.address)
    if options.address is None:
        check_machine(space, machine_resources())
        refuse_missing(space, missing_paths(needed_paths(space)))


def check_output(folder: Path) -> None:
    """Raise `BadInputError` if the folder of the search, or one above it, is a file."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise BadInputError(f"--output: expected a folder, got the file {existing}")
