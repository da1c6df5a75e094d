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

STOP_S = 0.2


def listen(host: str, port: int, option: str) -> socket.socket:
    """A socket that listens at an address: who asks at once is answered as soon as a server runs on it.

    Args:
        host: name or IP address.
        port: 0 takes a free one.
        option: the option that asked for it, for messages.

    Raises:
        UsageError: the port is taken, or the address is not one of this machine.
    """
    # Where the protocol is named, asyncio sends at once: else the end of a picture may wait 40 ms for the browser.
    listening = socket.socket(
        socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    try:
        if os.name != "nt":  # there, two programs could share the port
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(512)
    except OSError as error:
        listening.close()
        if error.errno == errno.EADDRNOTAVAIL or isinstance(error, socket.gaierror):
            raise UsageError(
                "{host} is no address of this machine; give one that is, or 0.0.0.0 for all",
                code="host_unknown",
                host=host,
            ) from None
        raise UsageError(
            "{option} {port}: the port is not available on {host} ({why}); give another, or 0 for a free one",
            code="port_taken",
            option=option,
            port=port,
            host=host,
            why=error.strerror,
        ) from None
    return listening


class WebServer(uvicorn.Server):
    """An application on a socket; signals are left to who runs it.

    Args:
        app: answers the requests.
        options: further ones of `uvicorn.Config`.
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
                proxy_headers=False,  # their senders would choose the address that has to wait
                timeout_graceful_shutdown=1,
                **options,
            )
        )
        self._stop = threading.Event()

    async def serve_on(self, listening: socket.socket, stop: threading.Event) -> None:
        """Serves until `stop` is set, and closes the socket. Who asks before waits in the socket's queue."""
        asyncio.get_running_loop().set_exception_handler(_connection_failed)
        self._stop = stop
        with listening:
            await self.serve(sockets=[listening])

    async def main_loop(self) -> None:  # uvicorn's own looks more often, for a date in each response
        while not self._stop.is_set():
            await asyncio.sleep(STOP_S)

    @contextmanager
    def capture_signals(self) -> Generator[None]:
        yield


def _connection_failed(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Notes what a peer did wrong in the log only: a traceback on the terminal would be of no use to anybody."""
    if "transport" not in context:
        loop.default_exception_handler(context)
    else:
        log.debug("http: a connection ended: %s", context.get("message"), exc_info=context.get("exception"))
