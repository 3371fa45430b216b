"""Behaviour of the proxy in each mode, for the client and the server."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .proxy import Proxy

ANSWER = b"an answer of thirty characters"
BODY = b"x" * 300_000  # more than one chunk


class Server:
    """HTTP server that records the requests."""

    def __init__(self) -> None:
        self.received: list[bytes] = []
        received = self.received

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                received.append(self.rfile.read(int(self.headers["Content-Length"])))
                self.send_response(200)
                self.send_header("Content-Length", str(len(ANSWER)))
                self.end_headers()
                self.wfile.write(ANSWER)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Stop listening."""
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.stop()


@pytest.fixture
def proxy(server: Server) -> Iterator[Proxy]:
    made = Proxy(server.address)
    yield made
    made.cut()


@contextmanager
def connected(proxy: Proxy, *, timeout_s: float = 30) -> Iterator[http.client.HTTPConnection]:
    connection = http.client.HTTPConnection(proxy.address, timeout=timeout_s)
    try:
        yield connection
    finally:
        connection.close()


def send(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    connection.request("POST", "/", body=BODY)
    response = connection.getresponse()
    return response.status, response.read()


def test_an_open_proxy_forwards_requests(proxy: Proxy, server: Server) -> None:
    with connected(proxy) as connection:
        assert [send(connection), send(connection)] == [(200, ANSWER)] * 2
    assert server.received == [BODY] * 2


def test_a_cut_proxy_refuses_connections(proxy: Proxy, server: Server) -> None:
    proxy.cut()
    with connected(proxy) as connection, pytest.raises(ConnectionRefusedError):
        send(connection)
    assert server.received == []


def test_a_stalled_proxy_accepts_connections_and_does_not_answer(proxy: Proxy, server: Server) -> None:
    proxy.stall()
    with connected(proxy, timeout_s=0.5) as connection:
        connection.connect()
        with pytest.raises(TimeoutError):
            send(connection)
    assert server.received == []


def test_responses_are_truncated_after_the_request_was_processed(proxy: Proxy, server: Server) -> None:
    proxy.truncate_responses()
    with connected(proxy) as connection, pytest.raises(http.client.IncompleteRead) as raised:
        send(connection)
    assert ANSWER.startswith(raised.value.partial)
    assert 0 < len(raised.value.partial) < len(ANSWER)
    assert server.received == [BODY]


def test_a_failing_proxy_answers_500_without_the_server(proxy: Proxy, server: Server) -> None:
    proxy.fail()
    with connected(proxy) as connection:
        assert send(connection) == (500, b"")
    assert server.received == []


@pytest.mark.parametrize("change", [Proxy.cut, Proxy.stall, Proxy.truncate_responses, Proxy.fail, Proxy.open])
def test_a_change_of_mode_breaks_connections_and_the_proxy_can_reopen(
    proxy: Proxy, change: Callable[[Proxy], None]
) -> None:
    with connected(proxy) as connection:
        assert send(connection) == (200, ANSWER)
        assert connection.sock is not None
        change(proxy)
        assert connection.sock.recv(1) == b""
        proxy.open()
    with connected(proxy) as connection:
        assert send(connection) == (200, ANSWER)
