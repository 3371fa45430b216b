"""The exceptions of the platform, each with the exit code the command ends with.

SelfConError
└── SearchError (1)              anything the platform raises on purpose
    ├── BadInputError (2)        bad input or a failed preflight: nothing was started, nothing written
    ├── NoSuccessError (3)       no trial succeeded, or the first ones failed alike
    ├── ClusterLostError (4)     the Ray cluster went away; resumable
    ├── TrackingError (5)        complete, but MLflow does not have everything yet
    ├── StorageError (6)         the study's database or a folder of the search cannot be used
    ├── AlreadyRunningError (7)  another launcher runs this search
    └── InterruptedSearchError (130, 143)    the user stopped it; resumable
"""

from typing import ClassVar

from selfcon.errors import SelfConError


class SearchError(SelfConError):
    """The search cannot go on; the message is one line for the user.

    `resumable` says whether the same command may go on where the search was.
    """

    exit_code: ClassVar[int] = 1
    resumable: ClassVar[bool] = False


class BadInputError(SearchError):
    """Bad input or a failed preflight: nothing was started, nothing written."""

    exit_code = 2


class NoSuccessError(SearchError):
    """No trial succeeded, or the first ones failed alike."""

    exit_code = 3


class ClusterLostError(SearchError):
    """The Ray cluster went away; the same command resumes."""

    exit_code = 4
    resumable = True


class TrackingError(SearchError):
    """The search is complete, but MLflow does not have everything yet; the same command delivers the rest."""

    exit_code = 5
    resumable = True


class StorageError(SearchError):
    """The study's database or a folder of the search cannot be used; once mended the same command resumes."""

    exit_code = 6
    resumable = True


class AlreadyRunningError(SearchError):
    """Another launcher runs this search; the message names its host, process and start."""

    exit_code = 7


class InterruptedSearchError(SearchError):
    """The user stopped the search, by Ctrl-C (exit code 130) or SIGTERM (143); the same command resumes."""

    resumable = True

    def __init__(self, exit_code: int) -> None:
        super().__init__("interrupted")
        self.exit_code = exit_code  # type: ignore[misc]  # the one error whose code depends on the signal
