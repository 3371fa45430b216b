"""What cannot work on this machine or cluster is refused before anything is started or written."""

from pathlib import Path

from tune_jobs.cluster.requirements import (
    check_address,
    check_machine,
    missing_paths,
    needed_paths,
    refuse_missing,
)
from tune_jobs.cluster.resources import (
    machine_resources,
)
from tune_jobs.errors import BadInputError
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters


def preflight(space: SearchSpace, options: LaunchOptions) -> None:
    """Raise `BadInputError` for a search that cannot run: nothing to try, no room, or no data.

    With an address, a cluster does the work: what fits and lies there is looked at when it is connected.
    """
    example_parameters(space, 1)
    check_output(options.output / space.name)
    check_address(options.address)
    if options.address is None:
        check_machine(space, machine_resources())
        refuse_missing(space, missing_paths(needed_paths(space)))


def check_output(folder: Path) -> None:
    """Raise `BadInputError` when a file stands where the folder of the search is to be."""
    existing = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not existing.is_dir():
        raise BadInputError(f"--output: expected a folder, got the file {existing}")
