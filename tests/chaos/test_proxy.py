"""What a client of the proxy sees in each manner, and what reaches the server."""

import http.client
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from .proxy import Proxy

ANSWER = b"an answer of thirty characters"
BODY = b"x" * 300_000  # more than one piece


class Server:
    """An HTTP server that counts what it is asked."""

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
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        self.address = f"127.0.0.1:{self._server.server_address[1]}"

    def stop(self) -> None:
        """Return when it listens no more."""
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


def ask(connection: http.client.HTTPConnection) -> tuple[int, bytes]:
    connection.request("POST", "/", body=BODY)
    response = connection.getresponse()
    return response.status, response.read()


def test_an_open_proxy_passes_on_request_after_request(proxy: Proxy, server: Server) -> None:
    with connected(proxy) as connection:
        assert [ask(connection), ask(connection)] == [(200, ANSWER)] * 2
    assert server.received == [BODY] * 2


def test_a_cut_proxy_refuses(proxy: Proxy, server: Server) -> None:
    proxy.cut()
    with connected(proxy) as connection, pytest.raises(ConnectionRefusedError):
        ask(connection)
    assert server.received == []


def test_a_stalling_proxy_accepts_and_says_nothing(proxy: Proxy, server: Server) -> None:
    proxy.stall()
    with connected(proxy, timeout_s=0.5) as connection:
        connection.connect()
        with pytest.raises(TimeoutError):
            ask(connection)
    assert server.received == []


def test_answers_are_cut_in_the_middle_of_what_was_carried_out(proxy: Proxy, server: Server) -> None:
    proxy.cut_answers()
    with connected(proxy) as connection, pytest.raises(http.client.IncompleteRead) as raised:
        ask(connection)
    assert ANSWER.startswith(raised.value.partial)
    assert 0 < len(raised.value.partial) < len(ANSWER)
    assert server.received == [BODY]


def test_a_failing_proxy_answers_500_in_place_of_the_server(proxy: Proxy, server: Server) -> None:
    proxy.fail()
    with connected(proxy) as connection:
        assert ask(connection) == (500, b"")
    assert server.received == []


@pytest.mark.parametrize("manner", [Proxy.cut, Proxy.stall, Proxy.cut_answers, Proxy.fail, Proxy.open])
def test_a_change_breaks_the_connections_that_are_there_and_it_opens_again(
    proxy: Proxy, manner: Callable[[Proxy], None]
) -> None:
    with connected(proxy) as connection:
        assert ask(connection) == (200, ANSWER)
        assert connection.sock is not None
        manner(proxy)
        assert connection.sock.recv(1) == b""
        proxy.open()
    with connected(proxy) as connection:
        assert ask(connection) == (200, ANSWER)
