"""The launcher process: the user's terminal and signals, the Ray cluster, and the lock on the search."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from tune_jobs.checkpoints.retention import Retention
from tune_jobs.cluster.connection import Connection
from tune_jobs.commands.cluster_lost import ClusterLostExit
from tune_jobs.errors import InterruptedSearchError
from tune_jobs.execution.failure_causes import storage_errors
from tune_jobs.execution.tuner import run_trials
from tune_jobs.options import LaunchOptions
from tune_jobs.search_folder import LIBRARY_LOG
from tune_jobs.space import SearchSpace
from tune_jobs.study.database.database import Database, held
from tune_jobs.study.store import database_of, study_name
from tune_jobs.study.trial_study import TrialStudy
from tune_jobs.terminal.interruption import GRACE_S, Interruption
from tune_jobs.terminal.live_panel import progress_display
from tune_jobs.terminal.streams import Terminal, UserConsole
from tune_jobs.wording import shown_place


@dataclass(frozen=True, kw_only=True)
class Launcher:
    """Holds the lock on a search until its context ends. `files` is the folder that it writes to."""

    space: SearchSpace
    files: Path
    database: Database
    console: UserConsole
    on_cluster_lost: ClusterLostExit
    _terminal: Terminal
    _interruption: Interruption
    _connection: Connection
    _start_s: float = field(default_factory=time.monotonic)

    @property
    def is_interrupted(self) -> bool:
        """Whether the user asked the launcher to stop."""
        return self._interruption.requested

    def raise_if_interrupted(self) -> None:
        """Raise `InterruptedSearchError` if the user asked the launcher to stop."""
        if self._interruption.requested:
            raise InterruptedSearchError(self._interruption.exit_code)

    def train(
        self,
        study: TrialStudy,
        *,
        checkpoints: str,
        retention: Retention,
        places: Callable[[], Mapping[str, str]] = dict,
    ) -> None:
        """Run the trials of a study until none remains, or the user asks the launcher to stop.

        `places` are shown while it runs, name to path or link. Raises what `run_trials` raises.
        """
        log = shown_place(self.files / LIBRARY_LOG)
        run_trials(
            self.space,
            study,
            folder=self.files,
            checkpoints=checkpoints,
            retention=retention,
            connection=self._connection,
            interruption=self._interruption,
            log=progress_display(
                self._terminal,
                self.console,
                study,
                self.space,
                places=lambda: {"log": log, **places()},
                is_stopping=lambda: self._interruption.requested,
                start_s=self._start_s,
            ),
        )

    def disconnect(self) -> None:
        """Disconnect from the cluster; no trial can run after that."""
        self._connection.close()


@contextmanager
def launcher(
    space: SearchSpace, options: LaunchOptions, *, folder: Path, below: str = "", connect_first: bool = False
) -> Iterator[Launcher]:
    """Lock the search in `folder` for one launcher, which writes to its subfolder `below`.

    With `connect_first`, nothing is written before the cluster is connected and a trial fits on it.

    Raises:
        AlreadyRunningError: Another launcher runs the search.
        InterruptedSearchError: The user stopped the launcher while it waited for the cluster.
        BadInputError, ClusterLostError: See `Connection.open`.
        StorageError: The study's database or the folder cannot be used.
    """
    terminal, database = Terminal(), database_of(options.study_storage, folder)
    interruption, lost = Interruption(GRACE_S, terminal), ClusterLostExit(options, terminal)
    connection = Connection(space, options.address, interruption, on_lost=lost.abort, terminal=terminal)
    with terminal.libraries_redirected() as redirect_to, interruption.caught(), connection:
        if connect_first:
            connection.open(terminal.info)
            if interruption.requested:
                raise InterruptedSearchError(interruption.exit_code)
        with storage_errors(folder), held(database, study=study_name(space), folder=folder):
            files = folder / below
            files.mkdir(exist_ok=True)
            redirect_to(files / LIBRARY_LOG)
            yield Launcher(
                space=space,
                files=files,
                database=database,
                console=UserConsole(file=terminal.out, soft_wrap=True),
                on_cluster_lost=lost,
                _terminal=terminal,
                _interruption=interruption,
                _connection=connection,
            )
