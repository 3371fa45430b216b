"""Space file: whether it is valid, fits this machine, and its paths exist."""

from collections.abc import Iterator

from tune_jobs.cluster.concurrency import trials_at_once
from tune_jobs.cluster.requirements import check_machine, missing_paths, needed_paths, refuse_missing
from tune_jobs.cluster.resources import machine_resources
from tune_jobs.commands.preflight import check_output
from tune_jobs.doctor.finding import Finding, note, ok
from tune_jobs.options import LaunchOptions
from tune_jobs.space import SearchSpace
from tune_jobs.space.examples import example_parameters


def file(space: SearchSpace, options: LaunchOptions) -> Iterator[Finding]:
    """Yield the finding on the file; raises `BadInputError` for a space without parameters."""
    example_parameters(space, 1)
    folder = options.output / space.name
    check_output(folder)
    num_trials = options.num_trials or space.search.num_trials
    state = "resumes in" if folder.is_dir() else "starts in"
    yield ok("space file", f"{space.name}: {num_trials} trials over {_names(space)}; {state} {folder}")


def _names(space: SearchSpace) -> str:
    return ", ".join(space.parameters)


def capacity(space: SearchSpace) -> Iterator[Finding]:
    """Yield the finding on how many trials fit this machine; raises `BadInputError` if none does."""
    resources = machine_resources()
    check_machine(space, resources)
    fit = trials_at_once([resources], space.trial, limit=space.search.max_concurrent)
    yield ok("capacity", f"{fit.count} at once: {fit.arithmetic}")


def data(space: SearchSpace) -> Iterator[Finding]:
    """Yield the finding on the data folder; raises `BadInputError` if it does not exist."""
    paths = needed_paths(space)
    refuse_missing(space, missing_paths(paths))
    folders = ", ".join(path.path for path in paths)
    yield ok(
        "data", f"{space.data.dataset}, " + (f"found {folders}" if paths else "embedded, needs no folder")
    )


def on_cluster(space: SearchSpace, options: LaunchOptions) -> Iterator[Finding]:
    """Yield a note on the state of a search that is on a local disk, while a cluster runs the search."""
    local = [
        f"{subject} ({flag})"
        for subject, flag, place in (
            ("the study", "--study-storage", options.study_storage),
            ("checkpoints", "--checkpoint-storage", options.checkpoint_storage),
        )
        if place is None
    ]
    if local:
        folder = options.output / space.name
        subject = " and ".join(local)
        message = f"{subject}: in {folder.absolute()}, only on this machine unless the folder is shared"
        yield note("state", message, "use storage that survives the loss of a machine (docs/cluster.md)")
