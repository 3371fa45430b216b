"""What the command line asks for."""

import shlex
from dataclasses import dataclass
from pathlib import Path

from tune_jobs.urls import masked

# What may also come from the environment: other users of a machine see command lines, but not that.
ENVIRONMENT = {
    "address": "RAY_ADDRESS",
    "tracking_uri": "MLFLOW_TRACKING_URI",
    "study_storage": "SELFCON_STUDY_STORAGE",
    "checkpoint_storage": "SELFCON_CHECKPOINT_STORAGE",
}


INSTEAD = ("dry_run", "report", "reproduce", "compare", "doctor")


@dataclass(frozen=True, kw_only=True)
class LaunchOptions:
    """The flags of one launch.

    `from_environment` names the fields that an environment variable filled in, which `command` leaves out;
    `program` is how the user started the process.
    """

    space: Path | None = None  # `compare` and `doctor` need none
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
        """Return the command that starts this search and, whenever it stopped, resumes it."""
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
    """Return the last line of a launch that failed: the cause and, if that may work, how to resume."""
    resume = f"; resume with: {options.command()}" if options is not None and resumable else ""
    return f"error: {masked(' '.join(message.splitlines()))}{resume}"


def interrupted_line(options: LaunchOptions) -> str:
    """Return the last line of a launch that the user stopped."""
    return f"interrupted; resume with: {options.command()}"
