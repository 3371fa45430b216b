"""A search that loses its checkpoint storage: it ends with one line, and resumes when the storage is back."""

import re
import time
from pathlib import Path

import pytest

from tune_jobs.study.records import State

from .one_trial import NUM_EPOCHS, launched, record, statuses
from .proxy import Proxy
from .surroundings import environment

KEYS = {"AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret"}
EXIT_WITHIN_S = 60.0


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_search_resumes_when_its_bucket_is_reachable_again(tmp_path: Path, s3_endpoint: str) -> None:
    proxy = Proxy(s3_endpoint)
    storage = f"s3://bucket/{tmp_path.name}?endpoint_override={proxy.address}&scheme=http"
    with launched(tmp_path, environment() | KEYS, "--checkpoint-storage", storage) as launch:
        launch.wait_for_epoch(3)
        proxy.cut()
        cut_s = time.monotonic()
        assert launch.end() == 6, launch.text
        print(f"exit {time.monotonic() - cut_s:.1f} s after the bucket was lost")
        assert time.monotonic() - cut_s < EXIT_WITHIN_S
    *events, error = launch.text.splitlines()
    assert all(re.match(r"( +\d+:\d\d  trial 0 |lost: 1 trials)", line) for line in events), launch.text
    assert error.startswith("error: ")
    assert "the checkpoint storage cannot be used: " in error
    assert "; resume with: python launch.py --space space.yaml --checkpoint-storage 's3://bucket/" in error
    interrupted = record(tmp_path)
    assert (interrupted.state, interrupted.attempts) == (State.RUNNING, 1)
    newest = interrupted.last_epoch

    with launched(tmp_path, environment() | KEYS, "--checkpoint-storage", storage) as launch:
        assert launch.end() == 6, launch.text
    assert launch.text.count("\n") == 1

    proxy.open()
    with launched(tmp_path, environment() | KEYS, "--checkpoint-storage", storage) as launch:
        assert launch.end() == 0, launch.text
    assert f"resumes after epoch {newest}, attempt 2" in launch.text
    assert min(map(int, re.findall(r"epoch (\d+)/", launch.text))) >= newest
    done = record(tmp_path)
    assert (done.state, done.attempts) == (State.COMPLETE, 2)
    assert [epoch.epoch for epoch in done.epochs] == list(range(NUM_EPOCHS + 1))
    assert statuses(tmp_path) == ["FINISHED"] * 2
    proxy.cut()
