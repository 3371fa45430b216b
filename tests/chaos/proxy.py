"""TCP proxy on a loopback port that can fail in several modes and recover."""

import socket
import threading
from collections.abc import Callable
from contextlib import suppress

from .surroundings import free_port

CHUNK = 1 << 16
END_OF_HEAD = b"\r\n\r\n"
FAILURE = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"

Serve = Callable[[socket.socket], None]


class Proxy:
    """Forwards connections at `address` to a server at HOST:PORT.

    Each change of mode breaks existing connections, so that the next request uses the new mode.
    """

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._port = free_port()
        self._listener: socket.socket | None = None
        self._connections: set[socket.socket] = set()
        self._lock = threading.Lock()
        self.open()

    @property
    def address(self) -> str:
        """HOST:PORT of the proxy, the same in all modes."""
        return f"127.0.0.1:{self._port}"

    def open(self) -> None:
        """Forward connections."""
        self._listen(self._forward)

    def stall(self) -> None:
        """Accept connections and never answer."""
        self._listen(_drain)

    def truncate_responses(self) -> None:
        """Forward each request, and close the connection within the body of its HTTP response."""
        self._listen(self._forward_half)

    def fail(self) -> None:
        """Answer every HTTP request with status 500, without forwarding it."""
        self._listen(_respond_with_failure)

    def cut(self) -> None:
        """Refuse connections, and break existing ones."""
        with self._lock:
            listener, self._listener = self._listener, None
            connections = list(self._connections)
        if listener is not None:
            with suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()
        for connection in connections:
            _break(connection)

    def _listen(self, serve: Serve) -> None:
        self.cut()
        self._listener = socket.create_server(("127.0.0.1", self._port))
        threading.Thread(target=self._accept, args=(self._listener, serve), daemon=True).start()

    def _accept(self, listener: socket.socket, serve: Serve) -> None:
        with suppress(OSError):  # closed
            while True:
                client, _ = listener.accept()
                threading.Thread(target=self._handle, args=(client, listener, serve), daemon=True).start()

    def _handle(self, client: socket.socket, listener: socket.socket, serve: Serve) -> None:
        with client:
            with self._lock:
                if listener is not self._listener:
                    return  # the mode has changed since
                self._connections.add(client)
            try:
                serve(client)
            except OSError:
                pass  # broken by the client, the server or a change of mode
            finally:
                with self._lock:
                    self._connections.discard(client)
                _break(client)

    def _forward(self, client: socket.socket) -> None:
        with socket.create_connection(self._target) as server:
            back = threading.Thread(target=_pump, args=(server, client), daemon=True)
            back.start()
            _pump(client, server)
            back.join()

    def _forward_half(self, client: socket.socket) -> None:
        with socket.create_connection(self._target) as server:
            threading.Thread(target=_pump, args=(client, server), daemon=True).start()
            answer = b""
            while not answer.partition(END_OF_HEAD)[2] and (data := server.recv(CHUNK)):
                answer += data
            head, end, body = answer.partition(END_OF_HEAD)
            client.sendall(head + end + body[: len(body) // 2])


def _break(connection: socket.socket) -> None:
    """Shut a connection down even if another thread reads from it, which `close` does not."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(CHUNK):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


def _drain(client: socket.socket) -> None:
    while client.recv(CHUNK):
        pass


def _respond_with_failure(client: socket.socket) -> None:
    client.recv(CHUNK)
    client.sendall(FAILURE)
    client.shutdown(socket.SHUT_WR)
    _drain(client)  # closing with unread data would reset the connection and lose the response
