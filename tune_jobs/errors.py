"""Exceptions of the platform, each with the exit code of the command.

SelfConError
└── SearchError (1)              any error that the platform raises on purpose
    ├── BadInputError (2)        bad input or a failed preflight: nothing was started, nothing written
    ├── NoSuccessError (3)       no trial succeeded, or the first ones failed with the same error
    ├── ClusterLostError (4)     the connection to the Ray cluster was lost; resumable
    ├── TrackingError (5)        complete, but not all records are in MLflow yet
    ├── StorageError (6)         the study's database or a folder of the search cannot be used
    ├── AlreadyRunningError (7)  another launcher runs this search
    └── InterruptedSearchError (130, 143)    the user stopped it; resumable
"""

from typing import ClassVar

from selfcon.errors import SelfConError


class SearchError(SelfConError):
    """The search cannot continue; the message is one line for the user.

    `resumable` states whether the same command can resume the search.
    """

    exit_code: ClassVar[int] = 1
    resumable: ClassVar[bool] = False


class BadInputError(SearchError):
    """Bad input or a failed preflight: nothing was started, nothing written."""

    exit_code = 2


class NoSuccessError(SearchError):
    """No trial succeeded, or the first trials failed with the same error."""

    exit_code = 3


class ClusterLostError(SearchError):
    """The connection to the Ray cluster was lost; the same command resumes the search."""

    exit_code = 4
    resumable = True


class TrackingError(SearchError):
    """The search is complete, but not all records are in MLflow yet; the same command sends the rest."""

    exit_code = 5
    resumable = True


class StorageError(SearchError):
    """The study's database or a folder of the search cannot be used; fix it and run the same command."""

    exit_code = 6
    resumable = True


class AlreadyRunningError(SearchError):
    """Another launcher runs this search; the message names its host, process and start time."""

    exit_code = 7


class InterruptedSearchError(SearchError):
    """The user stopped the search by Ctrl-C (exit code 130) or SIGTERM (143); the same command resumes it."""

    resumable = True

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted")
        self.exit_code = exit_code  # type: ignore[misc]  # the exit code depends on the signal
