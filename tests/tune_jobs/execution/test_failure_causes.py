"""Failure reasons of exceptions of the installed Ray and torch, wrapped as Ray wraps them."""

import errno
import os
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest
import torch
from ray import cloudpickle
from ray.exceptions import (
    ActorDiedError,
    LocalRayletDiedError,
    NodeDiedError,
    OutOfDiskError,
    OutOfMemoryError,
    RayActorError,
    RayTaskError,
    WorkerCrashedError,
)
from ray.train.v2._internal.exceptions import (
    BroadcastCollectiveTimeoutError,
    WorkerGroupStartupFailedError,
    WorkerGroupStartupTimeoutError,
    WorkerHealthCheckFailedError,
    WorkerHealthCheckTimeoutError,
)
from ray.train.v2.api.exceptions import ControllerError, NCCLHangError, PreemptionError, WorkerGroupError
from ray.train.v2.api.preemption import PreemptionInfo

from selfcon.errors import NonFiniteLossError
from tune_jobs.errors import NoSuccessError, StorageError
from tune_jobs.execution.failure_causes import failure_of, storage_errors
from tune_jobs.execution.watchdog import HungError
from tune_jobs.study.records import Reason

FOLDER = Path("/runs/search")


def from_task(cause: Exception) -> Exception:
    """Return an error as a task in another process raises it: wrapped and pickled."""
    wrapped = RayTaskError("train_worker", f"Traceback\n{cause}", cause).as_instanceof_cause()
    returned: Exception = cloudpickle.loads(cloudpickle.dumps(wrapped))
    return returned


def from_worker(*causes: Exception) -> WorkerGroupError:
    group = WorkerGroupError("workers failed", dict(enumerate(causes)))
    returned: WorkerGroupError = cloudpickle.loads(cloudpickle.dumps(group))
    return returned


def raised_by_torch(kind: str) -> Exception:
    """Return an error that the installed torch raises without a GPU."""
    try:
        if kind == "host memory":
            torch.empty(10**15)
        else:
            second = timedelta(seconds=1)
            torch.distributed.TCPStore("127.0.0.1", 0, is_master=True, timeout=second).get("x")  # type: ignore[attr-defined]  # not an explicit re-export
    except Exception as error:
        return error
    pytest.fail("nothing was raised")


def numpy_memory_error() -> Exception:
    try:
        np.empty(10**18)
    except MemoryError as error:
        return error
    pytest.fail("nothing was raised")


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
GLOO_TIMEOUT = RuntimeError(
    "[../third_party/gloo/gloo/transport/tcp/unbound_buffer.cc:84]"
    " Timed out waiting 1800000ms for recv operation to complete"
)  # gloo raises plain RuntimeErrors
GLOO_PEER = RuntimeError(
    "[/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:545] Read error [127.0.0.1]:46754: "
    "Connection reset by peer. This is typically caused by a remote worker hanging or bugs."
)
NCCL_PEER = torch.distributed.DistBackendError(
    "NCCL error: remote process exited or there was a network error, NCCL version 2.27.7"
)
NCCL_TIMEOUT = torch.distributed.DistBackendError(
    "[Rank 0] Watchdog caught collective operation timeout: WorkNCCL(SeqNum=7) ran for 600000 ms"
)
PREEMPTED = RayActorError(error_msg="its node was preempted", preempted=True)
PEER_GONE = RuntimeError("[/gloo/transport/tcp/pair.cc:538] Connection closed by peer [127.0.0.1]:3401")


@pytest.mark.parametrize(
    ("error", "reason", "text"),
    [
        (from_worker(from_task(NonFiniteLossError("loss is nan"))), Reason.NON_FINITE, "loss is nan"),
        (from_worker(NonFiniteLossError("loss is nan")), Reason.NON_FINITE, "loss is nan"),
        (from_worker(MemoryError("no memory left")), Reason.OUT_OF_MEMORY, "no memory left"),
        (from_worker(numpy_memory_error()), Reason.OUT_OF_MEMORY, "Unable to allocate"),
        (from_worker(raised_by_torch("host memory")), Reason.OUT_OF_MEMORY, "can't allocate memory"),
        (from_worker(torch.OutOfMemoryError("CUDA out of memory.")), Reason.OUT_OF_MEMORY, "CUDA out of"),
        (from_worker(RuntimeError("CUDA error: out of memory")), Reason.OUT_OF_MEMORY, "CUDA error"),
        (from_worker(RuntimeError("CUBLAS_STATUS_ALLOC_FAILED")), Reason.OUT_OF_MEMORY, "CUBLAS"),
        (from_worker(OutOfMemoryError("the worker was killed")), Reason.OUT_OF_MEMORY, "killed"),
        (from_worker(WorkerHealthCheckTimeoutError("no answer")), Reason.HUNG, "no answer"),
        (NCCLHangError("rank 1 hangs", {}), Reason.HUNG, "Training failed"),
        (from_worker(ActorDiedError()), Reason.WORKER_LOST, "died"),
        (from_worker(WorkerHealthCheckFailedError("x", ActorDiedError())), Reason.WORKER_LOST, "died"),
        (from_worker(PEER_GONE, ActorDiedError()), Reason.WORKER_LOST, "died"),
        (NodeDiedError("the node died"), Reason.WORKER_LOST, "the node died"),
        (WorkerCrashedError(), Reason.WORKER_LOST, "died unexpectedly"),
        (LocalRayletDiedError(), Reason.WORKER_LOST, "raylet"),
        (from_worker(GLOO_TIMEOUT), Reason.TIMED_OUT, "Timed out waiting"),
        (from_worker(NCCL_TIMEOUT), Reason.TIMED_OUT, "Watchdog"),
        (from_worker(GLOO_PEER), Reason.WORKER_LOST, "reset by peer"),
        (from_worker(NCCL_PEER), Reason.WORKER_LOST, "remote process exited"),
        (from_worker(GLOO_PEER, torch.OutOfMemoryError("CUDA")), Reason.OUT_OF_MEMORY, "CUDA"),
        (from_worker(RuntimeError("data server: Connection reset by peer")), Reason.ERROR, "data server"),
        (from_worker(raised_by_torch("store")), Reason.TIMED_OUT, "wait timeout"),
        (from_worker(BroadcastCollectiveTimeoutError(9, [1], 9)), Reason.TIMED_OUT, "timed out after 9"),
        (
            ControllerError(WorkerGroupStartupTimeoutError(2)),
            Reason.NO_RESOURCES,
            "startup timed out",
        ),
        (ControllerError(WorkerGroupStartupFailedError("died")), Reason.WORKER_LOST, "died"),
        (from_worker(HungError("no progress for 9 s")), Reason.HUNG, "no progress for 9 s"),
        (from_worker(PEER_GONE, HungError("no progress")), Reason.HUNG, "no progress"),
        (from_worker(HungError("no progress"), ActorDiedError()), Reason.HUNG, "no progress"),
        (from_worker(PEER_GONE, PREEMPTED), Reason.PREEMPTED, "was preempted"),
        (from_worker(WorkerHealthCheckFailedError("x", PREEMPTED)), Reason.PREEMPTED, "was preempted"),
        (from_worker(HungError("no progress"), PREEMPTED), Reason.PREEMPTED, "was preempted"),
        (PreemptionError(PreemptionInfo(None, {"node": [0]})), Reason.PREEMPTED, "node preemption"),
        (from_worker(NCCL_TIMEOUT, torch.OutOfMemoryError("CUDA")), Reason.OUT_OF_MEMORY, "CUDA"),
        (from_worker(from_task(ValueError("wrong shape"))), Reason.ERROR, "wrong shape"),
        (from_worker(PEER_GONE), Reason.WORKER_LOST, "closed by peer"),
        (from_worker(FileNotFoundError(errno.ENOENT, "gone", "/data/a.png")), Reason.ERROR, "a.png"),
        (ControllerError(RuntimeError("no placement")), Reason.ERROR, "no placement"),
        (from_worker(FULL), Reason.STORAGE, "No space left"),
        (from_worker(from_task(FULL)), Reason.STORAGE, "No space left"),
        (ControllerError(FULL), Reason.STORAGE, "No space left"),
        (from_worker(OSError(errno.EROFS, "read-only", "/runs/x")), Reason.STORAGE, "/runs/x"),
        (from_worker(OSError(errno.EDQUOT, "quota")), Reason.STORAGE, "quota"),
        (from_worker(OSError(errno.EIO, "failing")), Reason.STORAGE, "failing"),
        (from_worker(OutOfDiskError()), Reason.STORAGE, "disk"),
        (from_worker(PermissionError(errno.EACCES, "no", f"{FOLDER}/trials")), Reason.STORAGE, "trials"),
        (from_worker(PermissionError(errno.EACCES, "no", "/data/a.png")), Reason.ERROR, "a.png"),
    ],
)
def test_the_reason_of_a_failure_is_its_root_cause(error: Exception, reason: Reason, text: str) -> None:
    found, message = failure_of(error, folder=FOLDER)
    assert found == reason
    assert text in message
    assert "\n" not in message


def test_storage_errors_are_recognised_by_their_cause() -> None:
    with (
        pytest.raises(StorageError, match=r"^/runs/search: .* No space left on device$"),
        storage_errors(FOLDER),
    ):
        raise RuntimeError("in other text") from FULL


@pytest.mark.parametrize("error", [ValueError("x"), NoSuccessError("x"), KeyboardInterrupt()])
def test_other_errors_are_raised_unchanged(error: BaseException) -> None:
    with pytest.raises(type(error)) as raised, storage_errors(FOLDER):
        raise error
    assert raised.value is error


def test_a_very_long_message_is_truncated() -> None:
    reason, line = failure_of(ValueError("x" * 100_000))
    assert reason is Reason.ERROR
    assert line == "x" * 4000 + "..."
