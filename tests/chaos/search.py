"""The search that is disturbed: its launch command, and what its launches have said."""

import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.project import ROOT

from .processes import family, kill
from .surroundings import environment

SPACE = Path(__file__).with_name("space.yaml")


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """One search of the soak: where it lies, and the words of its command.

    `tracking_uri` and `study_storage`, which may hold a password, and `variables` go into the launcher's
    environment.
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
        """Where the state of the search lies."""
        return self.folder / "runs" / self.name

    def words(self, num_trials: int) -> list[str]:
        """Return the command for a total of trials."""
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
    """The launches of one search, one after the other; all write to one log."""

    def __init__(self, command: SearchCommand) -> None:
        self._command = command
        self.log = command.folder / f"{command.name}.log"
        self.exit_codes: list[int] = []
        self._read, self._rest = 0, ""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, num_trials: int) -> None:
        """Run the command."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command.words(num_trials), cwd=self._command.folder, env=self._command.environment(),
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip

    @property
    def pid(self) -> int:
        """The newest launcher's process."""
        assert self._process is not None
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """How the newest launch ended, None while it runs; by a signal: its negative number."""
        assert self._process is not None
        return self._process.poll()

    def end(self) -> None:
        """Kill the newest launcher, if it still runs, and the processes it started."""
        if self._process is not None:
            kill(family(self._process.pid))
            self._process.wait()

    def send(self, number: signal.Signals) -> None:
        """Send the newest launcher a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def new_lines(self) -> list[str]:
        """Return the whole lines that were written since the last call."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            text = self._rest + log.read().decode(errors="replace")
            self._read = log.tell()
        *lines, self._rest = text.split("\n")
        return lines

    def newest_words(self, num_lines: int = 40) -> str:
        """Return the end of the log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-num_lines:])
