"""The HTTP server under `serve`: connections that wait for their client cannot keep others out, and signals end it.

A connection waits for its client until a whole request has arrived, and again between requests. Such connections are
closed after a while, and the oldest one as soon as there are too many; a request that has arrived is never closed.
"""

import contextlib
import signal
import socket
from collections.abc import Iterator
from typing import Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

_MOST_WAITING = 64  # connections that wait for their client
_MOST_CONNECTIONS = 200
_IDLE_SECONDS = 10.0


class Connection(H11Protocol):
    """A connection that is closed if no request begins on it within `idle_seconds`."""
    idle_seconds = _IDLE_SECONDS
    _waiting_since = 0.0

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._wait()
        waiting = [other for other in self.connections if isinstance(other, Connection) and other._is_waiting()]
        if len(waiting) > _MOST_WAITING:
            min(waiting, key=lambda other: other._waiting_since).transport.abort()

    def on_response_complete(self) -> None:
        super().on_response_complete()
        self._wait()

    def _wait(self) -> None:
        self._waiting_since = self.loop.time()
        self.loop.call_later(self.idle_seconds, self._close_if_idle)

    def _is_waiting(self) -> bool:
        return self.cycle is None or self.cycle.response_complete or self.cycle.more_body

    def _close_if_idle(self) -> None:
        began = self.cycle is not None and not self.cycle.response_complete  # its body has a limit elsewhere
        if not began and self.loop.time() - self._waiting_since >= self.idle_seconds - 0.01:
            self.transport.abort()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """SIGINT and SIGTERM end the server and nothing else; the original raises them again afterwards."""
        def stop(number: int, frame: Any) -> None:
            self.force_exit, self.should_exit = self.should_exit, True
        before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def bind(host: str, port: int) -> socket.socket:
    """A socket that is bound but does not listen yet.

    Raises:
      OSError: the port is taken, or the host is not an address of this machine.
    """
    bound = None
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        bound = socket.socket(family, socket.SOCK_STREAM)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except OSError as error:
        if bound:
            bound.close()
        raise OSError(f"host={host}, port={port} cannot be opened ({error.strerror}): end the program that uses the "
                      "port, or give another --config.port") from None
    return bound


def run(app: Any, listening: socket.socket, idle_seconds: float) -> None:
    """Serves an ASGI app on a listening socket until SIGINT or SIGTERM."""
    protocol = type("Connection", (Connection,), {"idle_seconds": min(idle_seconds, _IDLE_SECONDS)})
    _Server(uvicorn.Config(
        app, http=protocol, ws="none", lifespan="off", access_log=False, server_header=False,
        log_level="critical",  # tracebacks may hold text
        timeout_keep_alive=int(_IDLE_SECONDS), timeout_graceful_shutdown=5, limit_concurrency=_MOST_CONNECTIONS,
    )).run(sockets=[listening])
