"""The search under test: its launch command, its launches and their output."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.project import ROOT

from .processes import kill, process_tree
from .surroundings import environment

SPACE = Path(__file__).with_name("space.yaml")


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """Folder, command and environment of a search.

    `tracking_uri` and `study_storage` may contain a password, so they are passed in the environment, together
    with `variables`.
    """

    folder: Path
    name: str
    overrides: tuple[str, ...]
    tracking_uri: str
    address: str | None = None
    space: Path = SPACE
    study_storage: str | None = None
    checkpoint_storage: str | None = None
    variables: Mapping[str, str] = field(default_factory=dict)

    @property
    def search_folder(self) -> Path:
        """Folder with the state of the search."""
        return self.folder / "runs" / self.name

    def words(self, num_trials: int) -> list[str]:
        """Return the command line for a number of trials."""
        words = [sys.executable, str(ROOT / "launch.py"), "--space", str(self.space), "--name", self.name]
        words += ["--num-trials", str(num_trials)]
        words += ["--address", self.address] if self.address else []
        words += ["--checkpoint-storage", self.checkpoint_storage] if self.checkpoint_storage else []
        return words + [word for override in self.overrides for word in ("--set", override)]

    def environment(self) -> dict[str, str]:
        """Return the environment of the launcher."""
        study = {"SELFCON_STUDY_STORAGE": self.study_storage} if self.study_storage else {}
        return {**environment(), **self.variables, **study, "MLFLOW_TRACKING_URI": self.tracking_uri}


class Launches:
    """Consecutive launches of one search, with a common log."""

    def __init__(self, command: SearchCommand) -> None:
        self._command = command
        self.log = command.folder / f"{command.name}.log"
        self.exit_codes: list[int] = []
        self._read, self._rest = 0, ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, num_trials: int) -> None:
        """Start a launcher."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command.words(num_trials), cwd=self._command.folder, env=self._command.environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """Pid of the newest launcher."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Exit code of the newest launcher, negative for a signal, None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def end(self) -> None:
        """Kill the newest launcher, if it still runs, and its child processes."""
        if self._process is not None:
            kill(process_tree(self._process.pid))
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send a signal to the newest launcher."""
        assert self._process is not None
        self._process.send_signal(number)

    def new_lines(self) -> list[str]:
        """Return the complete lines written since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = self._rest + log.read().decode(errors="replace")
            self._read = log.tell()
        *lines, self._rest = text.split("\n")
        return lines

    def log_tail(self, num_lines: int = 40) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])
