"""Run the app: one process, one socket, until SIGINT or SIGTERM."""

import asyncio
import logging
import socket
from collections.abc import Callable
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from influcoder.errors import ConfigError, InflucoderError, first_line
from influcoder.serve.app import make_app
from influcoder.serve.explorer import Explorer
from influcoder.serve.settings import MAX_HEADERS, MAX_WAITING, ServeSettings

HEADER_SECONDS = 5.0
"""for a request's headers to arrive, from the connection or their first byte"""
KEEP_ALIVE_SECONDS = 30
CONNECTIONS = 4 * MAX_WAITING
STOP_SECONDS = 10
"""for answers that are under way when the service is stopped"""


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that does not wait for ever for the headers of a request (slow loris)."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE or self.conn.our_state is h11.DONE:  # answered before its body was there
            self._expect_headers()
        elif self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def connection_lost(self, exc: Exception | None) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def _expect_headers(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEADER_SECONDS, self.transport.abort)


def serve(settings: ServeSettings, tell: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM; answers that are under way are finished first.

    Args:
        tell: is given the address once the service answers.

    Raises:
        ConfigError: the port is in use, or the address is none of this machine's.
        InflucoderError: index, encoder or decoder cannot be opened.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    with _listen(settings) as listening:
        app = make_app(settings)
        config = uvicorn.Config(
            app,
            http=ImpatientProtocol,
            ws="none",
            log_config=None,
            access_log=False,
            server_header=False,
            h11_max_incomplete_event_size=MAX_HEADERS,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=STOP_SECONDS,
        )
        _Server(config, app.explorer, lambda: tell(address_of(listening))).run([listening])
    failed = app.explorer.failed
    if failed is not None:
        raise failed if isinstance(failed, InflucoderError) else InflucoderError(first_line(failed))


def address_of(listening: socket.socket) -> str:
    """The address for a browser; a socket on all addresses is reached at this machine's own."""
    host, port = listening.getsockname()[:2]
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


class _Server(uvicorn.Server):
    """Calls back once it listens, and ends when the index cannot be loaded."""

    def __init__(self, config: uvicorn.Config, explorer: Explorer, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._explorer, self._listening = explorer, listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()

    async def on_tick(self, counter: int) -> bool:
        return await super().on_tick(counter) or self._explorer.failed is not None


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        listening = socket.create_server(family[4][:2], family=family[0], backlog=CONNECTIONS)
    except OSError as error:
        raise ConfigError(
            f"--host {settings.host} --port {settings.port}: cannot listen there ({error.strerror or error}). Give "
            "another with --port; 0 takes any that is free."
        ) from error
    return listening
