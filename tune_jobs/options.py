"""Options of a launch, and the lines that report how to resume it."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.urls import masked

# Environment variables that can replace flags: other users can see the command line, but not the environment.
ENVIRONMENT = {
    "address": "RAY_ADDRESS",
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "study_storage": "SELFCON_STUDY_STORAGE",
    "checkpoint_storage": "SELFCON_CHECKPOINT_STORAGE",
}


# Fields of the modes that replace running the search.
MODES = ("dry_run", "report", "reproduce", "compare", "doctor")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """Command-line options of one launch.

    `from_environment` names the fields that were set from environment variables; `command` omits them.
    `program` is the command that started the process.
    """

    space: Path | None = None  # not needed by `compare` and `doctor`
    output: Path = Path("runs")
    name: str | None = None
    address: str | None = None
    tracking_uri: str | None = None
    study_storage: str | None = None
    checkpoint_storage: str | None = None
    num_trials: int | None = None
    overrides: tuple[str, ...] = ()
    dry_run: bool = False
    report: bool = False
    reproduce: int | None = None
    compare: tuple[str, ...] = ()
    doctor: bool = False
    debug: bool = False
    from_environment: tuple[str, ...] = ()
    program: str = "python launch.py"

    def command(self) -> str:
        """Return the command that starts or resumes this search."""
        words = self.program.split()
        if self.space is not None:
            words += ["--space", str(self.space)]
        if self.output != Path("runs"):
            words += ["--output", str(self.output)]
        for field in ("name", "address", "tracking_uri", "study_storage", "checkpoint_storage", "num_trials",
                      "reproduce"):  # fmt: skip
            value = getattr(self, field)
            if value is not None and field not in self.from_environment:
                words += [flag_of(field), str(value)]
        for override in self.overrides:
            words += ["--set", override]
        return shlex.join(words)


def flag_of(field: str) -> str:
    """Return the flag that sets a field of `LaunchOptions`."""
    return f"--{field.replace('_', '-')}"


def closing_line(message: str, options: LaunchOptions | None = None, *, resumable: bool = False) -> str:
    """Return the last line of a failed launch: the cause and, if `resumable`, the command to resume."""
    resume = f"; resume with: {options.command()}" if options is not None and resumable else ""
    return f"error: {masked(' '.join(message.splitlines()))}{resume}"


def interrupted_line(options: LaunchOptions) -> str:
    """Return the last line of a launch that the user interrupted."""
    return f"interrupted; resume with: {options.command()}"
