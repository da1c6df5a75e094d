"""Serves HTTP for a live run to programs on this machine.

Rejects requests from web pages of other sites. `rtface.live.control.control_routes` defines the routes.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from http import HTTPStatus

from starlette.datastructures import Headers
from starlette.routing import BaseRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from rtface.concurrency.threads import start_thread
from rtface.web.access import HEADERS, LOOPBACK, bearer, foreign, same, with_headers
from rtface.web.http import application, error_response
from rtface.web.server import WebServer, listen

ADDRESS = "127.0.0.1"
_CLOSE_S = 1.0


class LocalHttpServer:
    """Runs an HTTP server on 127.0.0.1, on a separate thread, until `close`.

    The Host header must contain a name of this machine, so that a foreign DNS name that points here is rejected.
    Requests that a page of another site makes in a browser are rejected, too.

    Args:
        routes: routes of all paths; HEAD requests use the routes of GET.
        port: port to listen on; 0 chooses an unused port.
        key: key required in every request as ``Authorization: Bearer KEY``; "" admits every program on this machine.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, routes: Sequence[BaseRoute], *, port: int, key: str = "") -> None:
        listening = listen(ADDRESS, port, "--control")
        self.server_port: int = listening.getsockname()[1]
        app = _guard(application(routes, level=logging.DEBUG), key)
        self._stop = threading.Event()
        served = WebServer(app, ws="none").serve_on(listening, self._stop)
        self._thread = start_thread("http", asyncio.run, served)

    @property
    def address(self) -> str:
        """URL of the server, without a trailing slash."""
        return f"http://{ADDRESS}:{self.server_port}"

    def close(self) -> None:
        """Stops the server; safe to call twice. Requests that still run after a second end only with the process."""
        self._stop.set()
        self._thread.join(_CLOSE_S)


def _guard(app: ASGIApp, key: str) -> ASGIApp:
    """Wraps `app` to admit only requests from this machine with the key."""
    response_headers = HEADERS | {b"cache-control": b"no-store"}
    key_needed = "send the key from RTFACE_CONTROL_KEY, as Authorization: Bearer KEY"

    async def check(scope: Scope, receive: Receive, send: Send) -> None:
        headers, respond = Headers(scope=scope), app
        if reason := foreign(headers, LOOPBACK.__contains__):
            respond = error_response(reason, HTTPStatus.FORBIDDEN)
        elif key and not same(bearer(headers), key):
            respond = error_response(key_needed, HTTPStatus.UNAUTHORIZED)
        await respond(scope, receive, with_headers(send, response_headers))

    return check
