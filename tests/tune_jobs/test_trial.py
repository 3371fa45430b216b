import pytest
from ray.exceptions import ActorDiedError, OutOfMemoryError, RayTaskError
from ray.train.v2.api.exceptions import ControllerError, WorkerGroupError

from selfcon.errors import NonFiniteLossError
from tune_jobs.records import Reason
from tune_jobs.trial import failure_of


def raised_in_worker(cause: Exception) -> WorkerGroupError:
    return WorkerGroupError(
        "rank 0 failed", {0: RayTaskError("train_worker", f"Traceback\n{cause}", cause).as_instanceof_cause()}
    )


@pytest.mark.parametrize(
    ("error", "reason", "words"),
    [
        (
            raised_in_worker(NonFiniteLossError("epoch 2, step 3: loss is nan")),
            Reason.NON_FINITE,
            "loss is nan",
        ),
        (raised_in_worker(MemoryError("no memory left")), Reason.OUT_OF_MEMORY, "no memory left"),
        (raised_in_worker(ValueError("wrong shape")), Reason.ERROR, "wrong shape"),
        (
            WorkerGroupError("lost", {0: OutOfMemoryError("the worker was killed")}),
            Reason.OUT_OF_MEMORY,
            "killed",
        ),
        (WorkerGroupError("lost", {0: ActorDiedError()}), Reason.WORKER_LOST, "died"),
        (ControllerError(RuntimeError("no placement")), Reason.ERROR, "no placement"),
    ],
)
def test_a_failure_is_told_by_its_cause(error: Exception, reason: Reason, words: str) -> None:
    told, message = failure_of(error)
    assert told == reason
    assert words in message
    assert "\n" not in message
