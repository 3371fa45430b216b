import time
from collections.abc import Callable
from pathlib import Path

import pytest

from selfcon.checkpoints.state import MANIFEST, TrainingState, checkpoint_payloads
from selfcon.config import TrainConfig
from tune_jobs.checkpoints.store import CheckpointStore, open_store
from tune_jobs.checkpoints.trial_checkpoints import TrialCheckpoints, load_state, newest_valid
from tune_jobs.errors import StorageError
from tune_jobs.execution.failure_causes import failure_of
from tune_jobs.study.records import Reason

CONFIG = TrainConfig()


@pytest.fixture(autouse=True)
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")


@pytest.fixture(params=["folder", "s3"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "folder":
        return str(tmp_path / "search")
    return uri(request.getfixturevalue("s3_endpoint"), path=tmp_path.name)


def uri(endpoint: str, *, path: str, bucket: str = "bucket") -> str:
    return f"s3://{bucket}/{path}?endpoint_override={endpoint}&scheme=http"


def payloads(epoch: int) -> dict[str, bytes]:
    state = TrainingState(model={}, optimizer={}, epoch=epoch, step=0, history=[], cost={})
    return checkpoint_payloads(state, config=CONFIG)


def save_incomplete(store: CheckpointStore, name: str, epoch: int) -> None:
    """Store what a worker leaves if it is killed before it wrote the manifest."""
    store.save("0003", name, {**payloads(epoch), MANIFEST: b"{"})


def test_a_saved_checkpoint_is_listed_loaded_and_removed(place: str) -> None:
    store = open_store(place)
    assert (store.trials(), store.names("0003")) == ({}, [])
    store.save("0003", "0001-a1", payloads(1))
    assert store.load("0003", "0001-a1") == payloads(1)
    assert store.trials() == {"0003": sum(map(len, payloads(1).values()))}
    assert load_state(store, "0003", "0001-a1", config=CONFIG).epoch == 1
    for _ in range(2):
        store.remove("0003", "0001-a1")
    assert store.names("0003") == []
    assert store.load("0003", "0001-a1") == {}
    assert sum(store.trials().values()) == 0


def test_damaged_checkpoints_are_skipped_and_reported_once(place: str) -> None:
    store = open_store(place)
    store.save("0003", "0003-a1", payloads(3))
    save_incomplete(store, "0004-a1", 4)
    checkpoints = TrialCheckpoints(place, trial="0003", attempt=2)
    assert checkpoints.newest() == "0003-a1"
    (note,) = checkpoints.notes()["notes"]
    assert note.startswith("checkpoint 0004-a1 is damaged (")
    assert note.endswith("), resuming from 0003-a1")
    assert checkpoints.notes() == {}


def test_a_trial_without_a_valid_checkpoint_restarts(place: str) -> None:
    save_incomplete(open_store(place), "0004-a1", 4)
    checkpoints = TrialCheckpoints(place, trial="0003", attempt=2)
    assert checkpoints.newest() is None
    assert checkpoints.notes()["notes"][0].endswith("), restarting")
    assert newest_valid(open_store(place), "0004") is None


def test_two_checkpoints_are_kept_and_only_older_ones_removed(place: str) -> None:
    store = open_store(place)
    for epoch in range(4):
        TrialCheckpoints(place, trial="0003", attempt=1).save(payloads(epoch), epoch=epoch)
    assert set(store.names("0003")) == {"0002-a1", "0003-a1"}
    TrialCheckpoints(place, trial="0003", attempt=2).save(payloads(2), epoch=2)  # attempt 1 is still running
    assert set(store.names("0003")) == {"0003-a1", "0002-a2"}
    TrialCheckpoints(place, trial="0003", attempt=2).save(payloads(3), epoch=3, step=5)
    assert set(store.names("0003")) == {"0003-a1", "0003-s000005-a2"}


def test_the_check_leaves_no_files(place: str, tmp_path: Path) -> None:
    store = open_store(place)
    store.check()
    assert store.trials() == {}
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_created_is_a_storage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match=r"file/x: the checkpoint storage cannot be used: .*Not a dir"):
        open_store(str(tmp_path / "file/x")).check()


def test_a_missing_bucket_is_a_storage_error_with_one_line(s3_endpoint: str) -> None:
    with pytest.raises(StorageError, match=r"s3://other/x.*cannot be used: .*(?i:bucket)") as raised:
        open_store(uri(s3_endpoint, path="x", bucket="other")).check()
    assert "\n" not in str(raised.value)
    assert failure_of(raised.value)[0] is Reason.STORAGE


def test_an_unreachable_endpoint_is_an_error_within_seconds(free_port: Callable[[], int]) -> None:
    started_s = time.monotonic()
    with pytest.raises(StorageError, match="the checkpoint storage cannot be used"):
        open_store(uri(f"127.0.0.1:{free_port()}", path="x")).check()
    assert time.monotonic() - started_s < 15
