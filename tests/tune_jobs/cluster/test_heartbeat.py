"""Heartbeat of the cluster, with servers that answer, refuse, or only accept connections."""

import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress

import grpc
import pytest

from tune_jobs.cluster import heartbeat as module
from tune_jobs.cluster.heartbeat import MIN_MISSED, SILENCE_S, ClusterHeartbeat, Silence, answers
from tune_jobs.errors import ClusterLostError

WAIT_S = 20.0


class Server:
    """Server that answers every connection, unless `is_silent` is set."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.is_silent = False
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def _serve(self) -> None:
        with ExitStack() as connections:
            while True:
                try:
                    connection, _ = self._listener.accept()
                except OSError:
                    return
                connections.enter_context(connection)
                if not self.is_silent:
                    with suppress(OSError):  # the client has closed the connection
                        connection.sendall(b"settings")

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join()
        self._listener.close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.close()


@pytest.fixture
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "INTERVAL_S", 0.01)
    monkeypatch.setattr(module, "SILENCE_S", 0.5)
    monkeypatch.setattr(answers, "__kwdefaults__", {"timeout_s": 0.05})


class LossRecorder:
    """Callback `on_lost` that records the error."""

    def __init__(self) -> None:
        self.error: ClusterLostError | None = None
        self._called = threading.Event()

    def __call__(self, error: ClusterLostError) -> None:
        self.error = error
        self._called.set()

    def wait(self) -> str:
        assert self._called.wait(WAIT_S)
        return str(self.error)


def test_a_grpc_server_answers() -> None:
    with ThreadPoolExecutor(1) as threads:
        server = grpc.server(threads)
        port = server.add_insecure_port("127.0.0.1:0")
        server.start()
        assert answers(f"127.0.0.1:{port}")
        server.stop(None).wait()


def test_a_server_that_only_accepts_connections_does_not_answer(server: Server) -> None:
    server.is_silent = True
    assert not answers(server.address, timeout_s=0.1)


@pytest.mark.parametrize("address", ["127.0.0.1:{free}", "[::1]:{free}", "no-such-host.invalid:1"])
def test_without_a_server_there_is_no_answer(address: str, free_port: Callable[[], int]) -> None:
    assert not answers(address.format(free=free_port()), timeout_s=0.1)


def test_a_server_is_lost_after_the_limit_and_not_before() -> None:
    silence = Silence()
    for asked_s in range(100, 100 + MIN_MISSED):
        silence.missed(asked_s=asked_s)
    assert not silence.is_final(100 + SILENCE_S - 0.1)
    assert silence.is_final(100 + SILENCE_S)


def test_an_answer_ends_a_silence() -> None:
    silence = Silence()
    for asked_s in range(100, 119):
        silence.missed(asked_s=asked_s)
    silence.heard()
    for asked_s in range(120, 120 + MIN_MISSED):
        silence.missed(asked_s=asked_s)
    assert not silence.is_final(120 + SILENCE_S - 0.1)


def test_a_launcher_that_was_paused_considers_no_server_lost() -> None:
    silence = Silence()
    silence.missed(asked_s=100.0)
    assert not silence.is_final(1000.0)


@pytest.mark.usefixtures("short_times")
def test_a_server_that_stops_answering_is_reported_by_name(server: Server) -> None:
    lost = LossRecorder()
    heartbeat = ClusterHeartbeat({"its head": server.address}, lost)
    heartbeat.await_answer()
    heartbeat.start()
    server.is_silent = True
    assert lost.wait().startswith(f"the Ray cluster is lost: its head at {server.address} has not answered")
    with pytest.raises(ClusterLostError):
        heartbeat.await_answer()


@pytest.mark.usefixtures("short_times")
def test_a_closed_server_is_lost_although_another_one_answers(server: Server) -> None:
    lost, gone = LossRecorder(), Server()
    heartbeat = ClusterHeartbeat({"its head": server.address, "this machine's node": gone.address}, lost)
    heartbeat.start()
    gone.close()
    assert "this machine's node" in lost.wait()


@pytest.mark.usefixtures("short_times")
def test_after_a_short_silence_nothing_is_lost_and_waiting_calls_return(server: Server) -> None:
    lost = LossRecorder()
    heartbeat = ClusterHeartbeat({"its head": server.address}, lost)
    heartbeat.start()
    server.is_silent = True
    threading.Timer(0.2, setattr, (server, "is_silent", False)).start()
    time.sleep(0.05)
    heartbeat.await_answer()
    assert not server.is_silent
    time.sleep(0.6)
    assert lost.error is None
    heartbeat.stop()


@pytest.mark.usefixtures("short_times")
def test_a_server_that_never_answered_is_not_checked(free_port: Callable[[], int]) -> None:
    lost = LossRecorder()
    heartbeat = ClusterHeartbeat({"its head": f"127.0.0.1:{free_port()}"}, lost)
    heartbeat.start()
    heartbeat.await_answer()
    time.sleep(0.7)
    assert lost.error is None
    heartbeat.stop()


@pytest.mark.usefixtures("short_times")
def test_a_stopped_heartbeat_reports_nothing(server: Server) -> None:
    lost = LossRecorder()
    heartbeat = ClusterHeartbeat({"its head": server.address}, lost)
    heartbeat.start()
    heartbeat.stop()
    server.is_silent = True
    time.sleep(0.7)
    assert lost.error is None
