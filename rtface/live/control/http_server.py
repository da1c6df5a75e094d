"""The HTTP server of a live run, for programs of this machine; web pages of other sites are refused.

It serves the control page, the status, commands, the preview (`rtface.live.control.control_routes`) and Prometheus
metrics (`rtface.live.control.metrics`).
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import socket
import socketserver
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from rtface.concurrency.threads import start_thread
from rtface.errors import UsageError

log = logging.getLogger("rtface")

ADDRESS = "127.0.0.1"
CONNECTIONS = 16
STREAMS = 4
"""Of the connections those with endless responses (previews): the others are always left for commands."""
BODY_BYTES = 4096
REQUEST_S = 5.0
ANSWER_S = 5.0

_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
# What a browser sends for a request that the user or a page of ours made; programs send no such header.
_OWN_SITE = (None, "none", "same-origin")
_HEADERS = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
            "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer"}


class HttpError(Exception):
    """A request that is answered with an error: its status and a sentence."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A request that was let in.

    Attributes:
        values: of the query; those of a JSON object in the body replace them.
        headers: with lower-case names.
    """

    values: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """A response: a body, or pieces as they come, until there are no more or the peer is gone. An empty piece sends
    nothing; the server checks then whether the peer is still connected."""

    body: bytes | Generator[bytes]
    kind: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def json_response(value: object, status: HTTPStatus = HTTPStatus.OK, **headers: str) -> HttpResponse:
    """A response in JSON, ASCII only."""
    return HttpResponse((json.dumps(value) + "\n").encode(), "application/json", status, headers)


Routes = Mapping[tuple[str, str], Callable[[HttpRequest], HttpResponse]]


class LocalHttpServer(ThreadingHTTPServer):
    """HTTP server on 127.0.0.1 with a thread for each connection, until `close`.

    A request must name this machine as its host (a foreign DNS name that points here does not), and none is answered
    that a page of another site makes in a browser. Bodies, connections and waits are limited. Where all connections
    are taken, the oldest one without a request is closed for a new one: idle connections cannot block a command.

    Args:
        routes: handlers by method and path; HEAD uses those of GET.
        port: 0 takes a free one.
        option: the option that asked for the server, for messages.

    Raises:
        UsageError: the port is taken.
    """

    daemon_threads = True
    block_on_close = False
    # Elsewhere it only skips the wait after a server that ended; on Windows it would let two servers share a port.
    allow_reuse_address = os.name != "nt"
    request_queue_size = CONNECTIONS

    def __init__(self, routes: Routes, *, port: int, option: str) -> None:
        self.routes = routes
        self.streams = threading.BoundedSemaphore(STREAMS)
        self._room = threading.BoundedSemaphore(CONNECTIONS)
        self._reading: dict[socket.socket, None] = {}  # connections whose request is not complete, oldest first
        self._lock = threading.Lock()
        try:
            super().__init__((ADDRESS, port), _Handler)
        except OSError as error:
            raise UsageError(f"{option} {port}: the port is not available on {ADDRESS} ({error.strerror}); "
                             "give another, or 0 for a free one") from None
        self._thread = start_thread("http", self.serve_forever, 0.05)

    @property
    def address(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http://{ADDRESS}:{self.server_port}"

    def close(self) -> None:
        """Stops; safe to call twice. Responses that are being sent end with the process at the latest."""
        if self._thread.is_alive():
            self.shutdown()
            self._thread.join()
            self.server_close()

    def server_bind(self) -> None:
        socketserver.TCPServer.server_bind(self)  # HTTPServer's own asks a DNS server for our name
        self.server_name, self.server_port = ADDRESS, self.server_address[1]

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._room.acquire(blocking=False) and not (self._close_oldest() and self._room.acquire(timeout=0.5)):
            request.settimeout(0.0)
            with suppress(OSError):
                request.sendall(b"HTTP/1.0 503 Service Unavailable\r\nContent-Type: application/json\r\n\r\n"
                                b'{"error": "too many connections"}\n')
            self.shutdown_request(request)
            return
        with self._lock:
            self._reading[request] = None
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self.request_complete(request)
            self._room.release()

    def request_complete(self, connection: socket.socket) -> None:
        """Keeps a connection whose request was read from being closed for another."""
        with self._lock:
            self._reading.pop(connection, None)

    def handle_error(self, request: Any, client_address: Any) -> None:
        log.debug("http: a connection ended", exc_info=True)  # the peer left, or was too slow

    def _close_oldest(self) -> bool:
        """Closes the connection that has been without a request for longest; False where there is none."""
        with self._lock:
            oldest = next(iter(self._reading), None)
            if oldest is None:
                return False
            del self._reading[oldest]
        with suppress(OSError):
            oldest.shutdown(socket.SHUT_RDWR)
        return True


def check_port(port: int | None, option: str) -> None:
    """UsageError where a port is taken: checked before a run opens anything."""
    if port:
        LocalHttpServer({}, port=port, option=option).close()


class _TimedReader(io.RawIOBase):
    """Reader of a connection that limits the total time, whatever size the pieces have."""

    def __init__(self, connection: socket.socket, seconds: float) -> None:
        self._connection, self._until = connection, time.monotonic() + seconds

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        left = self._until - time.monotonic()
        if left <= 0:
            raise TimeoutError("the request took too long")
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Handler(BaseHTTPRequestHandler):
    server: LocalHttpServer  # pyright: ignore[reportIncompatibleVariableOverride]
    server_version = "rtface"
    sys_version = ""
    disable_nagle_algorithm = True  # else the end of a picture may wait 40 ms for the peer's acknowledgement

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_TimedReader(self.connection, REQUEST_S))

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("http: " + format, *args)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        status = HTTPStatus(code)
        self._send(json_response({"error": message or status.phrase}, status))

    def _serve(self, method: str) -> None:
        try:
            response = self._response(method)
        except HttpError as error:
            response = json_response({"error": str(error)}, error.status)
        except UsageError as error:
            response = json_response({"error": str(error), "kind": type(error).__name__}, HTTPStatus.BAD_REQUEST)
        except OSError:
            raise  # of the connection
        except Exception:
            log.debug("http: a handler failed", exc_info=True)
            response = json_response({"error": "rtface could not answer"}, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(response)

    def _response(self, method: str) -> HttpResponse:
        self._check_sender()
        body = self._body()
        self.server.request_complete(self.connection)
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "the path cannot be read") from None
        routes = self.server.routes
        route = routes.get((method, parts.path))
        if route is None:
            other = [m for m, path in routes if path == parts.path]
            if other:
                return json_response({"error": f"{parts.path} is for {other[0]}"}, HTTPStatus.METHOD_NOT_ALLOWED,
                                     Allow=", ".join(other))
            known = ", ".join(sorted({path for _, path in routes}))
            raise HttpError(HTTPStatus.NOT_FOUND, f"there is no {parts.path[:80]}; there is {known}")
        values: dict[str, Any] = dict(parse_qsl(parts.query))
        return route(HttpRequest(values | body, {name.lower(): value for name, value in self.headers.items()}))

    def _check_sender(self) -> None:
        host = self.headers.get("Host", "")
        if not _HOST.fullmatch(host) or len(self.headers.get_all("Host", [])) != 1:
            raise HttpError(HTTPStatus.FORBIDDEN, "only requests to 127.0.0.1 or localhost are answered")
        origin = self.headers.get("Origin")
        if self.headers.get("Sec-Fetch-Site") not in _OWN_SITE or origin not in (None, f"http://{host}"):
            raise HttpError(HTTPStatus.FORBIDDEN, "requests of other web pages are not answered")

    def _body(self) -> dict[str, Any]:
        if self.headers.get("Transfer-Encoding"):
            raise HttpError(HTTPStatus.LENGTH_REQUIRED, "a body needs a Content-Length")
        text = self.headers.get("Content-Length") or "0"
        if not (text.isascii() and text.isdigit()):
            raise HttpError(HTTPStatus.BAD_REQUEST, "Content-Length is not a number")
        if len(text) > 9 or int(text) > BODY_BYTES:
            raise HttpError(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"a body has at most {BODY_BYTES} bytes")
        data = self.rfile.read(int(text))
        if not data.strip():
            return {}
        try:
            value = json.loads(data)
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise HttpError(HTTPStatus.BAD_REQUEST, 'the body is not a JSON object such as {"value": 0.6}')
        return cast(dict[str, Any], value)

    def _send(self, response: HttpResponse) -> None:
        if isinstance(response.body, bytes):
            self._write(response, response.body)
        elif self.command == "HEAD":
            self._write(replace(response, body=b""), b"")
        elif self.server.streams.acquire(blocking=False):
            try:
                self._write(response, b"")
                with closing(response.body):
                    for piece in response.body:
                        if piece:
                            self.wfile.write(piece)
                        elif self._peer_left():
                            return
            finally:
                self.server.streams.release()
        else:
            response.body.close()
            self._send(json_response({"error": f"{STREAMS} previews are open, which is the most; close one"},
                                     HTTPStatus.SERVICE_UNAVAILABLE))

    def _write(self, response: HttpResponse, body: bytes) -> None:
        self.connection.settimeout(ANSWER_S)
        self.send_response(response.status)
        headers = {"Content-Type": response.kind, **_HEADERS, **response.headers}
        if isinstance(response.body, bytes):
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _peer_left(self) -> bool:
        """Whether the peer has closed or broken the connection."""
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(ANSWER_S)
