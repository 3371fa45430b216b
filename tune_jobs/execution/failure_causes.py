"""Failure reason of a training, derived from an exception of Ray: from the types or messages of its causes.

Types are compared by name, so that the trial actor does not need torch.
"""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tune_jobs.errors import SearchError, StorageError
from tune_jobs.study.records import Reason

# A disk that is full, over its quota, read-only or failing, or an unavailable network share.
STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})

# Longer lines, for example a printed tensor, do not fit into every database.
MAX_LINE_LENGTH = 4000

# Generic advice that Ray and gloo append.
ADVICE = re.compile(r"\s*(Some common causes include|This is typically caused by)\b.*")

OUT_OF_MEMORY = re.compile(r"out of memory|can(no|')t allocate memory|ALLOC_FAILED", re.IGNORECASE)
TIMED_OUT = re.compile(r"timed out|time ?out", re.IGNORECASE)

AWS_ERROR = re.compile(r"\bAWS Error\b")  # S3 errors of pyarrow are plain OSErrors

LOST = frozenset(
    {
        "RayActorError",
        "WorkerCrashedError",
        "NodeDiedError",
        "LocalRayletDiedError",
        "WorkerGroupStartupFailedError",  # a process died while it started
    }
)
HUNG = frozenset({"HungError", "WorkerHealthCheckTimeoutError", "NCCLHangError"})
STARTUP_TIMEOUTS = frozenset({"WorkerGroupStartupTimeoutError"})
TIMEOUTS = frozenset({"CollectiveTimeoutError", "TimeoutError"})
COLLECTIVE = frozenset({"DistError", "RuntimeError"})  # errors of gloo are plain RuntimeErrors

# Messages of gloo and NCCL in the remaining workers, often before Ray detects the lost one.
PEER_LOST = re.compile(
    r"Connection (reset|closed) by peer|Broken pipe|remote process exited|ncclRemoteError", re.IGNORECASE
)

Predicate = Callable[[BaseException], bool]


def failure_of(error: BaseException, *, folder: Path | None = None) -> tuple[Reason, str]:
    """Return the failure reason of a training, and the message of its cause in one line.

    An error of the operating system about a path in `folder`, that of the search, is a storage error. If
    workers failed with different errors, the reason is the root cause: for example a lost worker, not the
    timeouts of the ranks that waited for it.
    """
    causes = _causes(error)
    for reason, matches in _reasons(folder):
        for cause in causes:
            if matches(cause):
                return reason, _line(cause) or type(cause).__name__
    return Reason.ERROR, next(filter(None, map(_line, causes)), type(error).__name__)


@contextmanager
def storage_errors(folder: Path) -> Iterator[None]:
    """Raise errors of a full, read-only or failing disk as `StorageError`, from any library."""
    try:
        yield
    except SearchError:
        raise
    except Exception as error:
        reason, message = failure_of(error, folder=folder)
        if reason is not Reason.STORAGE:
            raise
        raise StorageError(f"{folder}: the search's folder cannot be used: {message}") from error


def _reasons(folder: Path | None) -> list[tuple[Reason, Predicate]]:
    """Predicates of the reasons in order of priority."""
    return [
        (Reason.STORAGE, lambda cause: _is_storage_error(cause, folder)),
        (Reason.NON_FINITE, lambda cause: "NonFiniteLossError" in _types(cause)),
        (Reason.OUT_OF_MEMORY, _is_out_of_memory),
        # Before the following ones, which ranks report that waited for the preempted one.
        (Reason.PREEMPTED, _is_preempted),
        (Reason.HUNG, lambda cause: bool(_types(cause) & HUNG)),
        (Reason.WORKER_LOST, lambda cause: bool(_types(cause) & LOST)),
        (Reason.WORKER_LOST, _is_peer_lost),
        (Reason.NO_RESOURCES, lambda cause: bool(_types(cause) & STARTUP_TIMEOUTS)),
        (Reason.TIMED_OUT, _is_timed_out),
    ]


def _is_storage_error(cause: BaseException, folder: Path | None) -> bool:
    if _types(cause) & {"OutOfDiskError", "StorageError"}:
        return True
    if not isinstance(cause, OSError):
        return False
    if cause.errno is None and AWS_ERROR.search(str(cause)):
        return True
    is_in_folder = isinstance(cause.filename, str) and folder and Path(cause.filename).is_relative_to(folder)
    return cause.errno in STORAGE_ERRNOS or bool(is_in_folder)


def _is_out_of_memory(cause: BaseException) -> bool:
    types = _types(cause)
    by_message = bool(types & {"RuntimeError", "OSError"}) and OUT_OF_MEMORY.search(str(cause)) is not None
    return bool(types & {"OutOfMemoryError", "MemoryError"}) or by_message


def _is_preempted(cause: BaseException) -> bool:
    """Whether a node was preempted before its workers could write a checkpoint."""
    return "PreemptionError" in _types(cause) or getattr(cause, "preempted", False) is True


def _is_peer_lost(cause: BaseException) -> bool:
    types, text = _types(cause), str(cause)
    is_collective = "DistError" in types or ("RuntimeError" in types and "gloo" in text)
    return is_collective and PEER_LOST.search(text) is not None


def _is_timed_out(cause: BaseException) -> bool:
    types = _types(cause)
    return bool(types & TIMEOUTS) or (bool(types & COLLECTIVE) and TIMED_OUT.search(str(cause)) is not None)


def _types(cause: BaseException) -> set[str]:
    return {cls.__name__ for cls in type(cause).__mro__}


def _causes(error: BaseException) -> list[BaseException]:
    """All causes, innermost first: errors of workers, then the exceptions of Ray around them."""
    inner = getattr(error, "worker_failures", None) or {}
    found = [cause for failure in inner.values() for cause in _causes(failure)]
    wrapped = (getattr(error, name, None) for name in ("cause", "health_check_failure", "controller_failure"))
    following = next((cause for cause in wrapped if cause is not None), error.__cause__)
    if isinstance(following, BaseException):
        found = _causes(following) + found
    return [*found, error]


def _line(cause: BaseException) -> str:
    """The most informative line: the last one of a remote traceback, else the first one."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if not lines:
        return ""
    line = lines[0] if _types(cause) & (HUNG | STARTUP_TIMEOUTS | TIMEOUTS) else lines[-1]
    line = ADVICE.sub("", line)
    return line if len(line) <= MAX_LINE_LENGTH else f"{line[:MAX_LINE_LENGTH]}..."
