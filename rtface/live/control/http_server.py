"""The HTTP server of a live run, for programs of this machine; web pages of other sites are refused.

It serves the control page, the status, commands, the preview (`rtface.live.control.control_routes`) and Prometheus
metrics (`rtface.live.control.metrics`).
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Sequence
from http import HTTPMethod, HTTPStatus

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from rtface.concurrency.threads import start_thread
from rtface.web.access import HEADERS, LOOPBACK, foreign, with_headers
from rtface.web.connections import HttpConnection
from rtface.web.http import application, error_response
from rtface.web.server import WebServer, listen

ADDRESS = "127.0.0.1"
_CLOSE_S = 1.0
_METHODS = (HTTPMethod.GET, HTTPMethod.HEAD, HTTPMethod.POST)


class ControlConnection(HttpConnection):
    """A connection whose peer takes every response in time: a preview that is not read ends."""

    MOST = 16
    STALLED_S = 5.0


class LocalHttpServer:
    """HTTP server on 127.0.0.1, on a separate thread, until `close`.

    A request must name this machine as its host (a foreign DNS name that points here does not), and none is answered
    that a page of another site makes in a browser. Bodies, connections and waits are limited. Where all connections
    are taken, the oldest one without a request is closed for a new one: idle connections cannot block a command.

    Args:
        routes: of all paths; HEAD uses those of GET.
        port: 0 takes a free one.
        option: the option that asked for the server, for messages.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, routes: Sequence[BaseRoute], *, port: int, option: str) -> None:
        listening = listen(ADDRESS, port, option)
        self.server_port: int = listening.getsockname()[1]
        app = _local(application(routes, _not_found, level=logging.DEBUG))
        self._stop = threading.Event()
        served = WebServer(app, connection=ControlConnection, ws="none").serve_on(listening, self._stop)
        self._thread = start_thread("http", asyncio.run, served)

    @property
    def address(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http://{ADDRESS}:{self.server_port}"

    def close(self) -> None:
        """Stops; safe to call twice. What is still being answered after a second ends with the process."""
        self._stop.set()
        self._thread.join(_CLOSE_S)


def check_port(port: int | None, option: str) -> None:
    """UsageError where a port is taken: checked before a run opens anything."""
    if port:
        listen(ADDRESS, port, option).close()


def _local(app: ASGIApp) -> ASGIApp:
    added = HEADERS | {b"cache-control": b"no-store"}

    async def checked(scope: Scope, receive: Receive, send: Send) -> None:
        refusal = foreign(Headers(scope=scope), LOOPBACK.__contains__)
        respond = app if refusal is None else error_response(refusal, HTTPStatus.FORBIDDEN)
        await respond(scope, receive, with_headers(send, added))

    return checked


async def _not_found(request: Request, error: Exception) -> Response:
    path, routes = request.scope["path"], [route for route in request.app.routes if isinstance(route, Route)]
    methods = sorted({method for route in routes if route.path == path for method in route.methods or ()})
    if not methods:
        known = ", ".join(sorted({route.path for route in routes}))
        return error_response(f"there is no {path[:80]}; there is {known}", HTTPStatus.NOT_FOUND)
    status = HTTPStatus.METHOD_NOT_ALLOWED if request.method in _METHODS else HTTPStatus.NOT_IMPLEMENTED
    return error_response(f"{path} is for {', '.join(methods)}", status, Allow=", ".join(methods))
