"""Runs the app: one process, one socket, until it is told to stop."""

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
from influcoder.serve.settings import MAX_WAITING, ServeSettings

HEADER_BYTES = 16 * 1024
HEADER_SECONDS = 10.0
"""that a request's headers may take to arrive, from the first connection or byte on"""
CONNECTIONS = 4 * MAX_WAITING
STOP_SECONDS = 10
"""that answers may take once the service is told to stop"""


class ImpatientProtocol(H11Protocol):
    """HTTP/1.1 that does not wait for ever for the headers of a request (slow loris)."""

    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self._expect_headers()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.conn.their_state is h11.IDLE:
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
        tell: is given the address once it can be asked.

    Raises:
        ConfigError: the port is in use, or the address is none of this machine's.
        InflucoderError: index, encoder or decoder cannot be opened.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    listening = _listen(settings)
    app = make_app(settings)
    config = uvicorn.Config(
        app,
        http=ImpatientProtocol,
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        h11_max_incomplete_event_size=HEADER_BYTES,
        limit_concurrency=CONNECTIONS,
        timeout_graceful_shutdown=STOP_SECONDS,
    )
    host, port = listening.getsockname()[:2]
    with listening:
        _Server(config, lambda: tell(f"http://{f'[{host}]' if ':' in host else host}:{port}")).run([listening])
    failed = app.explorer.failed
    if failed is not None:
        raise failed if isinstance(failed, InflucoderError) else InflucoderError(first_line(failed))


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, listening: Callable[[], None]) -> None:
        super().__init__(config)
        self._listening = listening

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._listening()


def _listen(settings: ServeSettings) -> socket.socket:
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0]
        made = socket.create_server(family[4][:2], family=family[0], backlog=CONNECTIONS)
    except OSError as error:
        raise ConfigError(
            f"--host {settings.host} --port {settings.port}: cannot listen there ({error.strerror or error}). Give "
            "another with --port; 0 takes any that is free."
        ) from error
    return made
