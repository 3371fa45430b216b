"""`--doctor`: every check that the flags call for, a line for each finding, and their count."""

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

IMPORT_TIMEOUT_S = 120.0  # of torch, from a busy file system of a network
CLUSTER_TIMEOUT_S = 90.0  # a node may have to start a process
HANGS = "see whether its file system answers (ls, df), or name another"
WHAT_WIDTH = len("temporary folder")
COLOURS = {Level.OK: "green", Level.NOTE: "yellow", Level.FAULT: "bold red"}


def examine(options: LaunchOptions) -> int:
    """Look at the installation, this machine and what the flags name; return 1 for a fault, else 0."""
    show = _printer()
    found = []
    for finding in _findings(options):
        show(finding)
        found.append(finding)
    print(f"\n{counted(found)}")
    return int(any(finding.level == Level.FAULT for finding in found))


def _findings(options: LaunchOptions) -> Iterator[Finding]:
    """Yield each as soon as it and those before it are known; all checks run at the same time."""
    space = None
    if options.space is not None:
        try:
            from tune_jobs.space import load_space

            space = load_space(options.space, overrides=options.overrides, name=options.name)
        except SelfConError as error:
            yield fault("space file", str(error), "correct it")
        except ImportError as error:
            yield fault("space file", f"cannot be read: {error}", PACKAGES_REMEDY)
    for running in [RunningCheck(check) for check in checks(options, space)]:
        yield from running.findings()


def checks(options: LaunchOptions, space: "SearchSpace | None") -> list[Check]:
    """Return what there is to look at for these flags and this space, if there is one that can be read."""
    is_here = options.address is None
    wants_gpus = space is not None and is_here and space.trial.gpus_per_worker > 0
    return [
        *(_of_space(options, space) if space else []),
        Check("packages", installation.look),
        Check(
            "environment",
            variables.look,
            (dict(os.environ), space.trial.cpus_per_worker if space else None),
        ),
        Check("CPUs and GPUs", machine.cpus),
        Check("memory", machine.memory, (space if is_here else None,)),
        Check("open files", machine.open_files),
        Check("output", folders.output, (options, space), HANGS),
        *([Check("temporary folder", folders.temporary, (), HANGS)] if is_here else []),
        Check("clock", clocks.look),
        Check("torch", torch_check.look, (wants_gpus,), torch_check.REINSTALL, IMPORT_TIMEOUT_S, apart=True),
        *_of_services(options, space),
    ]


def _of_space(options: LaunchOptions, space: "SearchSpace") -> list[Check]:
    from tune_jobs.doctor import space_check

    found = [Check("space file", space_check.file, (space, options), "correct it, or --output")]
    if options.address is not None:
        return [*found, Check("state", space_check.on_cluster, (space, options))]
    room = "fewer or smaller workers by --set, or --address of a cluster"
    return [
        *found,
        Check("room for trials", space_check.room, (space,), room),
        Check("data", space_check.data, (space,), "put it there, or --set train.data.root=FOLDER"),
    ]


def _of_services(options: LaunchOptions, space: "SearchSpace | None") -> list[Check]:
    """What Ray, MLflow and the storages are asked, each in a process of its own."""
    experiment, name = (space.tracking.experiment, space.name) if space else (None, "doctor")
    folder = (options.output / name).resolve()
    uri, study = resolve_uri(options.tracking_uri), options.study_storage
    if study is None and space is not None:
        study = f"sqlite:///{folder / 'study.db'}"
    found = [_of_ray(options, space)]
    arguments: tuple[Any, ...] = (uri, experiment, _variable(options, "tracking_uri"))
    remedy = f"start it, or --tracking-uri or {ENVIRONMENT['tracking_uri']} names another"
    found.append(Check("MLflow", tracking_check.look, arguments, remedy, apart=True))
    if study is not None:
        arguments = (study, _variable(options, "study_storage"), uri)
        remedy = f"--study-storage or {ENVIRONMENT['study_storage']} names one that can be used"
        found.append(Check(storage_check.STUDY, storage_check.study, arguments, remedy, apart=True))
    if options.checkpoint_storage is not None:
        arguments = (
            checkpoint_place(options.checkpoint_storage, folder),
            _variable(options, "checkpoint_storage"),
        )
        remedy = f"--checkpoint-storage or {ENVIRONMENT['checkpoint_storage']} names one that can be written"
        found.append(
            Check(storage_check.CHECKPOINTS, storage_check.checkpoints, arguments, remedy, apart=True)
        )
    return found


def _of_ray(options: LaunchOptions, space: "SearchSpace | None") -> Check:
    if options.address is None:
        remedy = "let processes of this machine talk over 127.0.0.1"
        return Check("Ray", ray_local.look, (), remedy, IMPORT_TIMEOUT_S, apart=True)
    remedy = "see whether its nodes answer (ray status)"
    arguments = (options.address, _variable(options, "address"), space)
    return Check("Ray", look_at_cluster, arguments, remedy, CLUSTER_TIMEOUT_S, apart=True)


def look_at_cluster(address: str, from_variable: str, space: "SearchSpace | None") -> Iterator[Finding]:
    """As `ray_cluster.look`, which is imported where it runs: packages that it needs may be missing."""
    from tune_jobs.doctor import ray_cluster

    yield from ray_cluster.look(address, from_variable, space)


def _variable(options: LaunchOptions, field: str) -> str:
    """Return which variable of the environment a field comes from, as an addition to its value."""
    return f" ({ENVIRONMENT[field]})" if field in options.from_environment else ""


def _printer() -> Callable[[Finding], None]:
    """Return what shows a finding: in colours on a terminal, plainly where rich is not installed."""
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
    text = f"{finding.level:<5}  {finding.what:<{WHAT_WIDTH}}  {finding.found}{remedy}"
    return masked(" ".join(text.splitlines()))
