"""The studio's server: builds the application, and serves it until it is stopped."""

from __future__ import annotations

import asyncio
import functools
import hashlib
import ipaddress
import secrets
import socket
import ssl
import threading
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from http import HTTPStatus
from importlib import import_module
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.types import ASGIApp, Receive, Scope, Send

from rtface._version import __version__
from rtface.concurrency.threads import call_in_thread
from rtface.errors import UsageError
from rtface.util.foreign import open_regular
from rtface.web.access import LOOPBACK
from rtface.web.http import application, in_thread
from rtface.web.server import WebServer, listen
from rtface_studio.access import AccessControl, new_token
from rtface_studio.catalogue import PAGE, catalogue
from rtface_studio.context import Studio
from rtface_studio.password import PasswordLogin

PORT = 8790
_MEDIA_TYPES = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".jpg": "image/jpeg",
}
_AREAS = (
    "engines",
    "files",
    "films",
    "health",
    "live",
    "persons",
    "queue",
    "settings",
)
"""Modules of this package with a function ``routes(studio) -> list[BaseRoute]``. The paths start with ``/api/``."""


@dataclass(frozen=True, slots=True)
class RemoteAccess:
    """Password, certificate and names of a studio that other machines may reach.

    Attributes:
        password: password for the log-in.
        certificate, key: paths of the PEM files for TLS.
        names: allowed host names, lower case; IP addresses are always allowed.
    """

    password: str
    certificate: Path
    key: Path
    names: frozenset[str]


def build_app(
    studio: Studio,
    token: str,
    *,
    hosts: frozenset[str] = LOOPBACK,
    secure: bool = False,
    login: PasswordLogin | None = None,
) -> ASGIApp:
    """Builds the studio as an ASGI application.

    Args:
        studio: state that the routes share.
        token: secret that is newly generated each time the server starts.
        hosts: allowed host names of the server.
        secure: whether the server uses HTTPS.
        login: password check, used in place of the token.
    """
    areas, start_id = _Areas(studio), secrets.token_hex(8)

    async def about(request: Request) -> Response:
        return JSONResponse({"version": __version__, "login": login is not None, "start": start_id})

    async def index(request: Request) -> Response:
        response = await _page_file(request)
        response.background = BackgroundTask(areas.load)  # while the browser fetches the page's files
        return response

    routes: list[BaseRoute] = [
        Route("/", index),
        Route("/api/text", _text),
        Route("/api/about", about),
        WebSocketRoute("/api/events", studio.events.serve),
    ]
    routes += [Route("/page/{path:path}", _page_file), Mount("", areas)]
    return AccessControl(application(routes), token=token, hosts=hosts, secure=secure, login=login)


class _Areas:
    """Loads and serves the routes of all areas. A thread loads them while the browser fetches the first page, because
    importing their libraries takes most of the startup time.

    Args:
        studio: state that the routes share.
    """

    def __init__(self, studio: Studio) -> None:
        self._studio, self._lock = studio, threading.Lock()
        self._loaded: Future[ASGIApp] | None = None

    def load(self) -> Future[ASGIApp]:
        """Starts loading, unless this has been called before."""
        with self._lock:
            if self._loaded is None:
                self._loaded = call_in_thread("studio areas", self._routes)
                self._studio.closing.callback(wait, [self._loaded])  # so that the areas' resources are closed, too
            return self._loaded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = await asyncio.shield(asyncio.wrap_future(self.load()))
        await app(scope, receive, send)

    def _routes(self) -> ASGIApp:
        routes = [route for area in _AREAS for route in import_module(f"rtface_studio.{area}").routes(self._studio)]
        return application(routes)


async def _page_file(request: Request) -> Response:
    """Serves a file of the page. Reads the file on the server's event loop, because a thread would take longer,
    especially while the areas are loading. A browser revalidates the file each time."""
    path = _page_files().get(request.path_params.get("path", "index.html"))
    if path is None:
        raise HTTPException(HTTPStatus.NOT_FOUND)
    state = path.stat()
    tag = f'"{state.st_mtime_ns:x}-{state.st_size:x}"'
    return _cached_response(request, tag, lambda: Response(path.read_bytes(), media_type=_MEDIA_TYPES[path.suffix]))


@functools.cache
def _page_files() -> dict[str, Path]:
    """Lists the files that a browser may fetch, by name."""
    return {path.relative_to(PAGE).as_posix(): path for path in PAGE.rglob("*") if path.suffix in _MEDIA_TYPES}


@functools.cache
def _texts() -> tuple[bytes, str]:
    """Returns the texts as JSON, and a tag that identifies their version."""
    texts = bytes(JSONResponse(catalogue()).body)
    return texts, f'"{hashlib.sha256(texts).hexdigest()[:32]}"'


async def _text(request: Request) -> Response:
    texts, tag = _texts()
    return _cached_response(request, tag, lambda: Response(texts, media_type="application/json"))


def _cached_response(request: Request, tag: str, make: Callable[[], Response]) -> Response:
    """Returns a response that browsers cache, but revalidate each time."""
    cached = request.headers.get("if-none-match") == tag
    response = Response(status_code=HTTPStatus.NOT_MODIFIED) if cached else make()
    response.headers.update({"cache-control": "no-cache", "etag": tag})
    return response


def is_loopback(host: str) -> bool:
    """Tests whether only this machine can reach an address."""
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _check_certificate(remote: RemoteAccess) -> None:
    try:
        for path in (remote.certificate, remote.key):
            open_regular(path).close()  # a pipe would block
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(remote.certificate, remote.key)
    except (OSError, ssl.SSLError) as error:
        raise UsageError(
            "--tls {certificate},{key}: cannot be used ({why}); pass a certificate and its key, both as PEM files",
            code="tls_unusable",
            certificate=remote.certificate,
            key=remote.key,
            why=error.strerror or error,
        ) from None


class StudioServer:
    """Serves the studio on a socket.

    Args:
        studio: state that the routes share. Its resources are closed with the server.
        host: address to listen on.
        port: port to listen on; 0 chooses an unused port.
        remote: remote access. Required unless `host` is a loopback address.
        token: secret in the address; "" creates a new token.

    Raises:
        UsageError: the port is in use, the certificate or key cannot be used, or `remote` is missing for a host that is
            not a loopback address.
    """

    def __init__(
        self,
        studio: Studio,
        *,
        host: str = "127.0.0.1",
        port: int = PORT,
        remote: RemoteAccess | None = None,
        token: str = "",
    ) -> None:
        if remote is None and not is_loopback(host):
            raise UsageError(
                "--host {host}: access from other machines requires TLS and a password; add --tls "
                "CERT.pem,KEY.pem and --password-file FILE",
                code="host_open",
                host=host,
            )
        self._studio, self.token = studio, token or new_token()
        studio.remote = remote is not None
        if remote is not None:
            _check_certificate(remote)
        self._socket = listen(host, port, "--port")
        self.host, self.port = host, self._socket.getsockname()[1]
        tls = {} if remote is None else {"ssl_certfile": remote.certificate, "ssl_keyfile": remote.key}
        app = build_app(
            studio,
            self.token,
            hosts=LOOPBACK | {host.lower()} | (remote.names if remote else frozenset()),
            secure=studio.remote,
            login=PasswordLogin(remote.password) if remote else None,
        )
        self._server = WebServer(app, **tls, ws="websockets-sansio", ws_max_size=64 * 1024)

    @property
    def address(self) -> str:
        """URL of the page. Contains the token if no password is set. Its host is the machine's name if the server
        listens on all addresses."""
        name = socket.gethostname() if self.host in ("0.0.0.0", "::") else self.host
        host = f"[{name}]" if ":" in name else name
        return (
            f"https://{host}:{self.port}/" if self._studio.remote else f"http://{host}:{self.port}/?token={self.token}"
        )

    def run(self, stop: threading.Event) -> None:
        """Serves until `stop` is set."""
        asyncio.run(self._serve(stop))

    async def _serve(self, stop: threading.Event) -> None:
        try:
            await self._server.serve_on(self._socket, stop)
        finally:
            await in_thread(self._studio.closing.close)  # unblocks handlers that wait for worker threads
