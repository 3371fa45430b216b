"""Why training failed, told from what Ray raised: by the types of all causes, else by their words.

Types are known by name, so that the trial's own process needs no torch.
"""

import errno
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from tune_jobs.errors import SearchError, StorageError
from tune_jobs.study.records import Reason

# A disk that is full, over its quota, read-only, failing, or a share that went away.
STORAGE_ERRNOS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE})

# A line of 64 KB, a printed tensor say, fits into no study of every database.
LONGEST_LINE = 4000

# What Ray and gloo add for whoever has no idea what may have happened.
ADVICE = re.compile(r"\s*(Some common causes include|This is typically caused by)\b.*")

OUT_OF_MEMORY = re.compile(r"out of memory|can(no|')t allocate memory|ALLOC_FAILED", re.IGNORECASE)
TIMED_OUT = re.compile(r"timed out|time ?out", re.IGNORECASE)

AWS_ERROR = re.compile(r"\bAWS Error\b")  # pyarrow's S3 errors are plain OSErrors

LOST = frozenset(
    {
        "RayActorError",
        "WorkerCrashedError",
        "NodeDiedError",
        "LocalRayletDiedError",
        "WorkerGroupStartupFailedError",  # one of them died as it began
    }
)
HUNG = frozenset({"HungError", "WorkerHealthCheckTimeoutError", "NCCLHangError"})
NO_ROOM = frozenset({"WorkerGroupStartupTimeoutError"})
TIMEOUTS = frozenset({"CollectiveTimeoutError", "TimeoutError"})
COLLECTIVE = frozenset({"DistError", "RuntimeError"})  # gloo's are plain RuntimeErrors

# What gloo and NCCL say in the workers that are left, often before Ray knows that one is gone.
PEER_LOST = re.compile(
    r"Connection (reset|closed) by peer|Broken pipe|remote process exited|ncclRemoteError", re.IGNORECASE
)

Tells = Callable[[BaseException], bool]


def failure_of(error: BaseException, *, folder: Path | None = None) -> tuple[Reason, str]:
    """Return why a training failed, and in one line the words of the cause that tells it.

    `folder` is the search's: an error of the operating system about a path in it is one of storage. Where
    workers failed in several ways, the reason is the one that explains the others: a lost worker, say, not
    the ranks that waited for it in vain.
    """
    causes = _causes(error)
    for reason, tells in _reasons(folder):
        for cause in causes:
            if tells(cause):
                return reason, _line(cause) or type(cause).__name__
    return Reason.ERROR, next(filter(None, map(_line, causes)), type(error).__name__)


@contextmanager
def storage_faults(folder: Path) -> Iterator[None]:
    """Raise a full, read-only or failing disk as `StorageError`, whatever library met it."""
    try:
        yield
    except SearchError:
        raise
    except Exception as error:
        reason, message = failure_of(error, folder=folder)
        if reason is not Reason.STORAGE:
            raise
        raise StorageError(f"{folder}: the search's folder cannot be used: {message}") from error


def _reasons(folder: Path | None) -> list[tuple[Reason, Tells]]:
    """What tells a reason; the first that is found among the causes explains the rest."""
    return [
        (Reason.STORAGE, lambda cause: _is_of_storage(cause, folder)),
        (Reason.NON_FINITE, lambda cause: "NonFiniteLossError" in _types(cause)),
        (Reason.OUT_OF_MEMORY, _is_out_of_memory),
        # First among what follows, as the others are told by ranks that waited for the one that is gone.
        (Reason.PREEMPTED, _is_preempted),
        (Reason.HUNG, lambda cause: bool(_types(cause) & HUNG)),
        (Reason.WORKER_LOST, lambda cause: bool(_types(cause) & LOST)),
        (Reason.WORKER_LOST, _is_peer_lost),
        (Reason.NO_ROOM, lambda cause: bool(_types(cause) & NO_ROOM)),
        (Reason.TIMED_OUT, _is_timed_out),
    ]


def _is_of_storage(cause: BaseException, folder: Path | None) -> bool:
    if _types(cause) & {"OutOfDiskError", "StorageError"}:
        return True
    if not isinstance(cause, OSError):
        return False
    if cause.errno is None and AWS_ERROR.search(str(cause)):
        return True
    is_ours = isinstance(cause.filename, str) and folder and Path(cause.filename).is_relative_to(folder)
    return cause.errno in STORAGE_ERRNOS or bool(is_ours)


def _is_out_of_memory(cause: BaseException) -> bool:
    types = _types(cause)
    by_words = bool(types & {"RuntimeError", "OSError"}) and OUT_OF_MEMORY.search(str(cause)) is not None
    return bool(types & {"OutOfMemoryError", "MemoryError"}) or by_words


def _is_preempted(cause: BaseException) -> bool:
    """A node went as had been announced, sooner than its workers could write a checkpoint."""
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
    """The innermost first: what each worker raised, then what Ray wrapped around it."""
    inner = getattr(error, "worker_failures", None) or {}
    found = [cause for failure in inner.values() for cause in _causes(failure)]
    wrapped = (getattr(error, name, None) for name in ("cause", "health_check_failure", "controller_failure"))
    following = next((cause for cause in wrapped if cause is not None), error.__cause__)
    if isinstance(following, BaseException):
        found = _causes(following) + found
    return [*found, error]


def _line(cause: BaseException) -> str:
    """The line that says most: the last of a remote traceback, the first where advice follows."""
    lines = [line.strip() for line in str(cause).splitlines() if line.strip()]
    if not lines:
        return ""
    line = lines[0] if _types(cause) & (HUNG | NO_ROOM | TIMEOUTS) else lines[-1]
    line = ADVICE.sub("", line)
    return line if len(line) <= LONGEST_LINE else f"{line[:LONGEST_LINE]}..."
