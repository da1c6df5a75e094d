"""Serves an application on a socket until it is stopped."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import threading
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from rtface.errors import UsageError, log

STOP_S = 0.2  # interval of checks whether to stop


def listen(host: str, port: int, option: str) -> socket.socket:
    """Opens a listening socket. Clients that connect early wait until a server uses it.

    Args:
        host: name or IP address.
        port: port to listen on; 0 chooses an unused one.
        option: option that set the address, for messages.

    Raises:
        UsageError: the port is taken, or the address is not one of this machine.
    """
    # asyncio sets TCP_NODELAY only with an explicit protocol. Otherwise, the end of an image could be 40 ms late.
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        if os.name != "nt":  # on Windows, two programs could then share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            raise UsageError(
                "{host} is not an address of this machine; use one that is, or 0.0.0.0 for all addresses",
                code="host_unknown",
                host=host,
            ) from None
        raise UsageError(
            "{option} {port}: the port is not available on {host} ({why}); use another port, or 0 to choose a free one",
            code="port_taken",
            option=option,
            port=port,
            host=host,
            why=error.strerror,
        ) from None
    return listening


class WebServer(uvicorn.Server):
    """Serves an application on a socket. The caller handles signals.

    Args:
        app: application that handles the requests.
        options: additional options of `uvicorn.Config`.
    """

    def __init__(self, app: ASGIApp, **options: Any) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                log_config=None,
                log_level="critical",
                access_log=False,
                lifespan="off",
                http="h11",
                server_header=False,
                proxy_headers=False,  # clients could forge the address for rate limits
                timeout_graceful_shutdown=1,
                **options,
            )
        )
        self._stop = threading.Event()

    async def serve_on(self, listening: socket.socket, stop: threading.Event) -> None:
        """Serves until `stop` is set, and closes the socket. Until then, clients wait in the socket's queue."""
        asyncio.get_running_loop().set_exception_handler(_connection_failed)
        self._stop = stop
        with listening:
            await self.serve(sockets=[listening])

    async def main_loop(self) -> None:  # uvicorn's loop runs more often, to update the date in its responses
        while not self._stop.is_set():
            await asyncio.sleep(STOP_S)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _connection_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Logs connection errors at debug level. A traceback on the terminal would help nobody."""
    if "transport" not in context:
        loop.default_exception_handler(context)
    else:
        log.debug("http: a connection ended: %s", context.get("message"), exc_info=context.get("exception"))
