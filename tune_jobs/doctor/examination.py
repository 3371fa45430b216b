"""`--doctor`: run all checks for the flags; print a line for each finding, and the counts."""

import os
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from selfcon.errors import SelfConError
from tune_jobs.doctor import (
    clocks,
    folders,
    installation,
    machine,
    ray_local,
    storage_check,
    torch_check,
    tracking_check,
    variables,
)
from tune_jobs.doctor.check import PACKAGES_REMEDY, Check, RunningCheck
from tune_jobs.doctor.finding import Finding, Level, counted, fault
from tune_jobs.options import ENVIRONMENT, LaunchOptions
from tune_jobs.tracking.server import resolve_uri
from tune_jobs.urls import checkpoint_place, masked

if TYPE_CHECKING:
    from tune_jobs.space import SearchSpace

IMPORT_TIMEOUT_S = 120.0  # import of torch from a busy network file system
CLUSTER_TIMEOUT_S = 90.0  # a node may need to start a process
HANGS = "check whether its file system responds (ls, df), or choose another folder"
SUBJECT_WIDTH = len("temporary folder")
COLOURS = {Level.OK: "green", Level.NOTE: "yellow", Level.FAULT: "bold red"}


def examine(options: LaunchOptions) -> int:
    """Check the installation, this machine and the locations in the flags; return 1 if there is a fault, else
    0."""
    show = _printer()
    found = []
    for finding in _findings(options):
        show(finding)
        found.append(finding)
    print(f"\n{counted(found)}")
    return int(any(finding.level == Level.FAULT for finding in found))


def _findings(options: LaunchOptions) -> Iterator[Finding]:
    """Yield the findings in order as they become available; all checks run concurrently."""
    space = None
    if options.space is not None:
        try:
            from tune_jobs.space import load_space

            space = load_space(options.space, overrides=options.overrides, name=options.name)
        except SelfConError as error:
            yield fault("space file", str(error), "correct the file")
        except ImportError as error:
            yield fault("space file", f"cannot be read: {error}", PACKAGES_REMEDY)
    for running in [RunningCheck(check) for check in checks(options, space)]:
        yield from running.findings()


def checks(options: LaunchOptions, space: "SearchSpace | None") -> list[Check]:
    """Return the checks for these flags and this space, if one can be read."""
    is_local = options.address is None
    wants_gpus = space is not None and is_local and space.trial.gpus_per_worker > 0
    return [
        *(_space_checks(options, space) if space else []),
        Check("packages", installation.check),
        Check(
            "environment",
            variables.check,
            (dict(os.environ), space.trial.cpus_per_worker if space else None),
        ),
        Check("CPUs and GPUs", machine.cpus),
        Check("memory", machine.memory, (space if is_local else None,)),
        Check("open files", machine.open_files),
        Check("output", folders.output, (options, space), HANGS),
        *([Check("temporary folder", folders.temporary, (), HANGS)] if is_local else []),
        Check("clock", clocks.check),
        Check(
            "torch", torch_check.check, (wants_gpus,), torch_check.REINSTALL, IMPORT_TIMEOUT_S, isolated=True
        ),
        *_service_checks(options, space),
    ]


def _space_checks(options: LaunchOptions, space: "SearchSpace") -> list[Check]:
    from tune_jobs.doctor import space_check

    found = [Check("space file", space_check.file, (space, options), "correct the file, or change --output")]
    if options.address is not None:
        return [*found, Check("state", space_check.on_cluster, (space, options))]
    remedy = "request fewer or smaller workers with --set, or pass the --address of a cluster"
    return [
        *found,
        Check("capacity", space_check.capacity, (space,), remedy),
        Check("data", space_check.data, (space,), "put the data there, or pass --set train.data.root=FOLDER"),
    ]


def _service_checks(options: LaunchOptions, space: "SearchSpace | None") -> list[Check]:
    """Checks of Ray, MLflow and the storages, each in a separate process."""
    experiment, name = (space.tracking.experiment, space.name) if space else (None, "doctor")
    folder = (options.output / name).resolve()
    uri, study = resolve_uri(options.tracking_uri), options.study_storage
    if study is None and space is not None:
        study = f"sqlite:///{folder / 'study.db'}"
    found = [_ray_check(options, space)]
    arguments: tuple[Any, ...] = (uri, experiment, _variable(options, "tracking_uri"))
    remedy = f"start it, or set --tracking-uri or {ENVIRONMENT['tracking_uri']}"
    found.append(Check("MLflow", tracking_check.check, arguments, remedy, isolated=True))
    if study is not None:
        arguments = (study, _variable(options, "study_storage"), uri)
        remedy = f"fix it, or set --study-storage or {ENVIRONMENT['study_storage']}"
        found.append(Check(storage_check.STUDY, storage_check.study, arguments, remedy, isolated=True))
    if options.checkpoint_storage is not None:
        arguments = (
            checkpoint_place(options.checkpoint_storage, folder),
            _variable(options, "checkpoint_storage"),
        )
        remedy = f"make it writable, or set --checkpoint-storage or {ENVIRONMENT['checkpoint_storage']}"
        found.append(
            Check(storage_check.CHECKPOINTS, storage_check.checkpoints, arguments, remedy, isolated=True)
        )
    return found


def _ray_check(options: LaunchOptions, space: "SearchSpace | None") -> Check:
    if options.address is None:
        remedy = "allow connections between local processes on 127.0.0.1"
        return Check("Ray", ray_local.check, (), remedy, IMPORT_TIMEOUT_S, isolated=True)
    remedy = "check the state of its nodes with ray status"
    arguments = (options.address, _variable(options, "address"), space)
    return Check("Ray", check_cluster, arguments, remedy, CLUSTER_TIMEOUT_S, isolated=True)


def check_cluster(address: str, from_variable: str, space: "SearchSpace | None") -> Iterator[Finding]:
    """Run `ray_cluster.check`, imported in the isolated process because packages may be missing."""
    from tune_jobs.doctor import ray_cluster

    yield from ray_cluster.check(address, from_variable, space)


def _variable(options: LaunchOptions, field: str) -> str:
    """Return the environment variable of a field, for a message."""
    return f" ({ENVIRONMENT[field]})" if field in options.from_environment else ""


def _printer() -> Callable[[Finding], None]:
    """Return the function that prints a finding: with colours on a terminal, plain without rich."""
    try:
        from rich.console import Console
        from rich.text import Text
    except ImportError:
        return lambda finding: print(_line(finding), flush=True)
    console = Console(soft_wrap=True, highlight=False)

    def show(finding: Finding) -> None:
        text = Text(_line(finding))
        text.stylize(COLOURS[finding.level], 0, len(finding.level))
        console.print(text)

    return show


def _line(finding: Finding) -> str:
    remedy = f"  -> {finding.remedy}" if finding.remedy else ""
    text = f"{finding.level:<5}  {finding.subject:<{SUBJECT_WIDTH}}  {finding.message}{remedy}"
    return masked(" ".join(text.splitlines()))
