"""The search-space file: whether it can be read, fits this machine, and finds what it names."""

from collections.abc import Iterator

from tune_jobs.cluster.requirements import check_machine, missing_paths, needed_paths, refuse_missing
from tune_jobs.cluster.resources import machine_resources, trials_at_once
from tune_jobs.commands.preflight import check_output
from tune_jobs.doctor.finding import Finding, note, ok
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters


def file(space: SearchSpace, options: LaunchOptions) -> Iterator[Finding]:
    """Yield a line for the file; raises `BadInputError` for a space that holds nothing to try."""
    example_parameters(space, 1)
    folder = options.output / space.name
    check_output(folder)
    num_trials = options.num_trials or space.search.num_trials
    state = "goes on in" if folder.is_dir() else "would begin in"
    yield ok("space file", f"{space.name}: {num_trials} trials over {_names(space)}; {state} {folder}")


def _names(space: SearchSpace) -> str:
    return ", ".join(space.parameters)


def room(space: SearchSpace) -> Iterator[Finding]:
    """Yield how many trials this machine holds; raises `BadInputError` where that is none."""
    resources = machine_resources()
    check_machine(space, resources)
    fit = trials_at_once([resources], space.trial)
    yield ok("room for trials", f"{fit.count} at once: {fit.arithmetic}")


def data(space: SearchSpace) -> Iterator[Finding]:
    """Yield whether the folder of the data is there; raises `BadInputError` where it is not."""
    paths = needed_paths(space)
    refuse_missing(space, missing_paths(paths))
    places = ", ".join(path.path for path in paths)
    yield ok("data", f"{space.data.dataset}, " + (f"found {places}" if paths else "which reads no folder"))


def on_cluster(space: SearchSpace, options: LaunchOptions) -> Iterator[Finding]:
    """Yield what of a search would lie on one machine alone, when a cluster runs it."""
    lost = [
        f"{what} ({flag})"
        for what, flag, place in (
            ("the study", "--study-storage", options.study_storage),
            ("checkpoints", "--checkpoint-storage", options.checkpoint_storage),
        )
        if place is None
    ]
    if lost:
        folder = options.output / space.name
        verb = "lie" if options.checkpoint_storage is None else "lies"
        found = f"{' and '.join(lost)} {verb} in {folder.absolute()}, on this machine unless nodes share it"
        yield note("state", found, "name places that outlive a machine (docs/cluster.md)")
