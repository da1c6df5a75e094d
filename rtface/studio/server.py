"""The studio's server: builds the application, and serves it until it is stopped."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import threading
from collections.abc import Callable
from functools import cache
from http import HTTPStatus
from importlib import import_module
from pathlib import Path
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from rtface._version import __version__
from rtface.errors import UsageError
from rtface.studio.access import AccessControl, new_token
from rtface.studio.context import Studio
from rtface.studio.http import error_response, in_thread

log = logging.getLogger("rtface")

PORT = 8790
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
CONNECTIONS = 256
PAGE = Path(__file__).with_name("page")
"""Folder of the page's files."""
_AREAS = (
    "engines",
    "files",
    "films",
    "health",
    "live",
    "queue",
    "settings",
)
"""Modules of this package with a function ``routes(studio) -> list[BaseRoute]``; their paths begin with ``/api/``."""


def build_app(studio: Studio, token: str, *, hosts: frozenset[str] = LOOPBACK, secure: bool = False) -> ASGIApp:
    """The studio as an ASGI application.

    Args:
        studio: what the routes share.
        token: secret of this start.
        hosts: names by which the server may be called.
        secure: whether it is served by HTTPS.
    """
    routes: list[BaseRoute] = [
        Route("/", _index), Route("/api/text", _text), Route("/api/about", _about),
        WebSocketRoute("/api/events", studio.events.serve)]
    for area in _AREAS:
        routes += import_module(f"rtface.studio.{area}").routes(studio)
    routes.append(Mount("/page", _PageFiles(directory=PAGE)))
    app = Starlette(routes=routes, exception_handlers={404: _not_found, 405: _not_found})
    return AccessControl(app, token=token, hosts=hosts, secure=secure)


class _PageFiles(StaticFiles):
    """The page's files; a browser asks each time whether one has changed."""

    def file_response(self, *args: Any, **more: Any) -> Response:
        response = super().file_response(*args, **more)
        response.headers["cache-control"] = "no-cache"
        return response


async def _index(request: Request) -> Response:
    return FileResponse(PAGE / "index.html", headers={"cache-control": "no-cache"})


async def _about(request: Request) -> Response:
    return JSONResponse({"version": __version__})


async def _text(request: Request) -> Response:
    return JSONResponse(catalogue())


@cache
def catalogue() -> dict[str, dict[str, str]]:
    """The page's texts by key, each in English ("en") and German ("de"), from all files of ``page/text``."""
    texts: dict[str, dict[str, str]] = {}
    for file in sorted((PAGE / "text").glob("*.json")):
        texts |= {f"{file.stem}.{key}": value for key, value in json.loads(file.read_text("utf-8")).items()}
    return texts


async def _not_found(request: Request, error: Exception) -> Response:
    status = HTTPStatus(getattr(error, "status_code", 404))
    return error_response(f"{request.method} {request.url.path[:80]}: {status.phrase.lower()}", status)


class StudioServer:
    """The studio on a socket.

    Args:
        studio: what the routes share; closed with the server.
        host: address to listen at.
        port: 0 takes a free one.

    Raises:
        UsageError: the port is taken.
    """

    def __init__(self, studio: Studio, *, host: str = "127.0.0.1", port: int = PORT) -> None:
        self._studio, self.token = studio, new_token()
        self._socket = socket.socket()
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind((host, port))
            self._socket.listen(CONNECTIONS)  # who reads the address at once is answered as soon as the server runs
        except OSError as error:
            self._socket.close()
            raise UsageError(f"--port {port}: the port is not available on {host} ({error.strerror}); give another, or "
                             "0 for a free one") from None
        self.host, self.port = host, self._socket.getsockname()[1]
        config = uvicorn.Config(build_app(studio, self.token), log_config=None, log_level="critical", access_log=False,
                                lifespan="off", server_header=False, limit_concurrency=CONNECTIONS,
                                timeout_keep_alive=30, timeout_graceful_shutdown=1,
                                ws="websockets-sansio", ws_max_size=64 * 1024)
        self._server = uvicorn.Server(config)
        self._server.install_signal_handlers = lambda: None  # pyright: ignore[reportAttributeAccessIssue]

    @property
    def address(self) -> str:
        """URL of the page, with the token."""
        return f"http://{self.host}:{self.port}/?token={self.token}"

    def run(self, stop: threading.Event, started: Callable[[], None] = lambda: None) -> None:
        """Serves until `stop` is set; calls `started` once requests are answered."""
        try:
            asyncio.run(self._serve(stop, started))
        finally:
            self._socket.close()

    async def _serve(self, stop: threading.Event, started: Callable[[], None]) -> None:
        serving = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        while not self._server.started and not serving.done():
            await asyncio.sleep(0.01)
        started()
        while not serving.done():
            if stop.is_set():
                self._server.should_exit = True
            await asyncio.wait({serving}, timeout=0.2)
        try:
            await serving
        finally:
            await in_thread(self._studio.closing.close)  # ends what handlers on threads wait for
