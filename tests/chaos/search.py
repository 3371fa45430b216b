"""The search that is disturbed: its launch command, and what its launches have said."""

import signal
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from .surroundings import PROJECT, environment

SPACE = Path(__file__).with_name("space.yaml")


@dataclass(frozen=True, kw_only=True)
class SearchCommand:
    """One search of the soak: where it lies, and the words of its command."""

    folder: Path
    name: str
    overrides: tuple[str, ...]
    tracking_uri: str
    address: str | None = None

    @property
    def search_folder(self) -> Path:
        """Where the state of the search lies."""
        return self.folder / "runs" / self.name

    def words(self, num_trials: int) -> list[str]:
        """Return the command for a total of trials."""
        words = [sys.executable, str(PROJECT / "launch.py"), "--space", str(SPACE), "--name", self.name]
        words += ["--tracking-uri", self.tracking_uri, "--num-trials", str(num_trials)]
        words += ["--address", self.address] if self.address else []
        return words + [word for override in self.overrides for word in ("--set", override)]


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
                self._command.words(num_trials), cwd=self._command.folder, env=environment(),
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
