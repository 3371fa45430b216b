"""Loss of a remote head or of local Ray processes during training: the launcher exits, and can resume."""

import os
import re
import secrets
import signal
import time
from pathlib import Path

import pytest

from tune_jobs.cluster.ray_internals import reload_token
from tune_jobs.study.database.lock import LauncherLock
from tune_jobs.study.records import State

from .one_trial import NUM_EPOCHS, Launch, cluster, launched, record, statuses
from .processes import Process, kill, process_tree, survivors
from .surroundings import environment

pytestmark = [pytest.mark.soak, pytest.mark.timeout(400)]

EXIT_WITHIN_S = 90.0
STALL_S = 5.0
CLEANUP_WITHIN_S = 20.0


def with_token(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Set a token in this process, which queries the cluster, and return the environment with it."""
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", secrets.token_hex(32))
    reload_token()
    return environment()


def titles(processes: list[Process]) -> str:
    return " ".join(process.title for process in processes)


def check_exit(folder: Path, launch: Launch, *, part: str, lost_s: float, flags: str = "") -> None:
    """Check that the launch exits in time with one line, and that the search can resume."""
    assert launch.end() == 4, launch.text
    took_s = time.monotonic() - lost_s
    print(f"exit {took_s:.1f} s after {part} was lost")
    assert took_s < EXIT_WITHIN_S
    assert re.fullmatch(
        rf"lost: 1 trials, .*\n( +\d+:\d\d  .*\n)+error: the Ray cluster is lost: {part} at \S+ has not "
        rf"answered for 20 s; resume with: python launch.py --space space.yaml{re.escape(flags)}\n",
        launch.text,
    ), launch.text
    interrupted = record(folder)
    assert (interrupted.state, interrupted.attempts, interrupted.attempt_ends) == (State.RUNNING, 1, ())
    assert statuses(folder) == ["KILLED"] * 2
    LauncherLock(folder / "runs/lost/launcher.lock").release()


def test_a_search_whose_cluster_is_lost_resumes_on_another(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authenticated = with_token(monkeypatch)
    with (
        cluster(authenticated, "spot", "spot", "on-demand", num_nodes=2) as first,
        launched(tmp_path, authenticated, "--address", first.address) as launch,
    ):
        launch.wait_for_epoch(2)
        # The trial actor and Train's controller run on the on-demand node.
        assert all(
            "ray::ImplicitFunc" not in titles(part)
            for part in (first.head(), process_tree(first.nodes[0].pid))
        )
        assert all(
            title in titles(process_tree(first.nodes[1].pid))
            for title in ("ray::ImplicitFunc", "ray::TrainC")
        )
        (gcs,) = [process.pid for process in first.head() if "/gcs_server " in process.title]
        os.kill(gcs, signal.SIGSTOP)
        time.sleep(STALL_S)
        os.kill(gcs, signal.SIGCONT)
        launch.wait_for_epoch(launch.newest_epoch() + 2)
        assert "warning" not in launch.text
        kill(first.head())
        check_exit(
            tmp_path, launch, part="its head", lost_s=time.monotonic(), flags=f" --address {first.address}"
        )
        trained = launch.training
    trained.poll()
    newest = max(saved.epoch for saved in trained.saved)

    monkeypatch.delenv("RAY_AUTH_TOKEN")
    monkeypatch.setenv("RAY_AUTH_MODE", "disabled")
    reload_token()
    unauthenticated = environment()
    with (
        cluster(unauthenticated, num_nodes=1) as second,
        launched(tmp_path, unauthenticated | {"RAY_ADDRESS": second.address}) as launch,
    ):
        assert launch.end() == 0, launch.text
    assert re.search(
        r"warning: the Ray cluster at \S+ has no token authentication: .*security\)\n", launch.text
    )
    resumed = [saved.epoch for saved in launch.training.saved if saved.attempt == 2]
    assert min(resumed) >= newest  # includes the checkpoint from which it resumed
    done = record(tmp_path)
    assert (done.state, done.attempts, done.attempt_ends) == (State.COMPLETE, 2, ())
    assert [epoch.epoch for epoch in done.epochs] == list(range(NUM_EPOCHS + 1))
    assert statuses(tmp_path) == ["FINISHED"] * 2


def test_no_process_remains_after_the_loss_of_a_local_cluster(tmp_path: Path) -> None:
    variables = environment() | {"HOME": str(tmp_path), "RAY_AUTH_MODE": "disabled"}
    head_folder, node_folder = tmp_path / "head", tmp_path / "node"
    head_folder.mkdir()
    node_folder.mkdir()
    with launched(head_folder, variables) as first, launched(node_folder, variables) as second:
        started = {}
        for launch in (first, second):
            launch.wait_for_epoch(2)
            started[launch] = process_tree(launch.process.pid)
        (head,) = [process for process in started[first] if "/gcs_server " in process.title]
        (node,) = [process for process in started[second] if "/raylet " in process.title]
        check_own_token(head, tmp_path)
        lost_s = time.monotonic()
        kill([head, node])
        check_exit(head_folder, first, part="its head", lost_s=lost_s)
        check_exit(node_folder, second, part="this machine's node", lost_s=lost_s)
        assert survivors([*started[first], *started[second]], timeout_s=CLEANUP_WITHIN_S) == []


def check_own_token(server: Process, home: Path) -> None:
    """Check that the token of the cluster is only in the environment of its processes."""
    variables = dict(
        entry.split("=", 1) for entry in Path(f"/proc/{server.pid}/environ").read_text().split("\0") if entry
    )
    assert variables["RAY_AUTH_MODE"] == "token"
    assert re.fullmatch("[0-9a-f]{64}", variables["RAY_AUTH_TOKEN"])
    assert not list(home.rglob("auth_token"))
    session = re.search(r"--session[-_]dir=(\S+)", server.title)
    assert session is not None
    written = [path for path in Path(session[1]).rglob("*") if path.is_file()]
    assert written
    assert not [path for path in written if variables["RAY_AUTH_TOKEN"].encode() in path.read_bytes()]
