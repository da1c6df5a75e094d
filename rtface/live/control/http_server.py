"""A small HTTP server for programs of this machine; pages of other sites in a browser on it are kept out."""

from __future__ import annotations

import io
import json
import logging
import re
import socket
import threading
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from rtface.errors import UsageError
from rtface.live.control.http_connections import ADDRESS, STREAMS, LimitedServer

log = logging.getLogger("rtface")

BODY_BYTES = 4096
REQUEST_S = 5.0
ANSWER_S = 5.0

_HOST = re.compile(r"(127\.0\.0\.1|localhost|\[::1\])(:\d{1,5})?", re.IGNORECASE)
# What a browser says of a request that the user or a page of ours made; programs say nothing.
_OWN = (None, "none", "same-origin")


class HttpError(Exception):
    """A request that is answered with an error: status and a sentence."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """What is asked.

    Attributes:
        values: of the query, and over these of a JSON object in the body.
        headers: with lower-case names.
    """

    values: dict[str, Any]
    headers: dict[str, str]


@dataclass(frozen=True, slots=True)
class HttpResponse:
    """What is sent back: a body, or pieces as they come until there are no more or the peer is gone. An empty piece
    sends nothing; it has the server look whether the peer is still there."""

    body: bytes | Generator[bytes]
    kind: str
    status: HTTPStatus = HTTPStatus.OK
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


def json_response(value: object, status: HTTPStatus = HTTPStatus.OK,
                  headers: Mapping[str, str] | None = None) -> HttpResponse:
    """An answer in JSON, ASCII only."""
    return HttpResponse((json.dumps(value) + "\n").encode(), "application/json", status, headers or {})


Routes = Mapping[tuple[str, str], Callable[[HttpRequest], HttpResponse]]


def check_port(port: int | None, option: str) -> None:
    """UsageError where a port is not free: asked before a run opens anything."""
    if port:
        LocalHttpServer({}, port=port, option=option).close()


class LocalHttpServer:
    """Answers on 127.0.0.1 from threads of its own until it is closed.

    A request must name this machine as its host (a name that a foreign DNS server points here does not), and none is
    answered that a page of another site makes in a browser. Bodies, connections and waits are limited. Where all
    connections are taken, one that has not sent its request yet makes room for a new one: who opens connections and
    says nothing cannot keep a command from being answered.

    Args:
        routes: by method and path what answers; HEAD goes to GET.
        port: 0 takes a free one.
        option: which asked for it, for messages.

    Raises:
        UsageError: the port cannot be had.
    """

    def __init__(self, routes: Routes, *, port: int, option: str) -> None:
        try:
            self._server = LimitedServer(routes, port, _Handler)
        except OSError as error:
            raise UsageError(f"{option} {port}: the port cannot be had on {ADDRESS} ({error.strerror}); "
                             "give another, or 0 for a free one") from None
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), name=f"rtface{option}",
                                        daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return self._server.server_address[1]

    @property
    def address(self) -> str:
        """Its URL, without a slash at the end."""
        return f"http://{ADDRESS}:{self.port}"

    def close(self) -> None:
        """Answers no more; safe to call twice. Answers that are being sent end with the process at last."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()


class _Within(io.RawIOBase):
    """Reads from a connection, all in all no longer than a request may take: drops by the second do not help."""

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
    server_version = "rtface"
    sys_version = ""

    def setup(self) -> None:
        super().setup()
        self.rfile = io.BufferedReader(_Within(self.connection, REQUEST_S))

    def do_GET(self) -> None:
        self._serve("GET")

    def do_HEAD(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *args: Any) -> None:
        log.debug("control: " + format, *args)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        status = HTTPStatus(code)
        self._send(json_response({"error": message or status.phrase}, status))

    def _serve(self, method: str) -> None:
        try:
            answer = self._answer(method)
        except HttpError as refusal:
            answer = json_response({"error": str(refusal)}, refusal.status)
        except UsageError as error:
            answer = json_response({"error": str(error)}, HTTPStatus.BAD_REQUEST)
        except OSError:
            raise  # the peer
        except Exception:
            log.debug("control: an answer failed", exc_info=True)
            answer = json_response({"error": "rtface could not answer"}, HTTPStatus.INTERNAL_SERVER_ERROR)
        self._send(answer)

    def _answer(self, method: str) -> HttpResponse:
        self._check_sender()
        body = self._body()
        cast(LimitedServer, self.server).request_came(self.connection)
        try:
            parts = urlsplit(self.path)
        except ValueError:
            raise HttpError(HTTPStatus.BAD_REQUEST, "the path cannot be read") from None
        routes = cast(LimitedServer, self.server).routes
        route = routes.get((method, parts.path))
        if route is None:
            other = [m for m, path in routes if path == parts.path]
            if other:
                return json_response({"error": f"{parts.path} is for {other[0]}"}, HTTPStatus.METHOD_NOT_ALLOWED,
                                     {"Allow": ", ".join(other)})
            known = ", ".join(sorted({path for _, path in routes}))
            raise HttpError(HTTPStatus.NOT_FOUND, f"there is no {parts.path[:80]}; there is {known}")
        values: dict[str, Any] = dict(parse_qsl(parts.query))
        return route(HttpRequest(values | body, {name.lower(): value for name, value in self.headers.items()}))

    def _check_sender(self) -> None:
        host = self.headers.get("Host", "")
        if not _HOST.fullmatch(host) or len(self.headers.get_all("Host", [])) != 1:
            raise HttpError(HTTPStatus.FORBIDDEN, "only requests to 127.0.0.1 or localhost are answered")
        origin = self.headers.get("Origin")
        if self.headers.get("Sec-Fetch-Site") not in _OWN or origin not in (None, f"http://{host}"):
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

    def _send(self, answer: HttpResponse) -> None:
        streams = cast(LimitedServer, self.server).streams
        if isinstance(answer.body, bytes):
            self._send_in(answer)
        elif self.command == "HEAD":
            self._send_in(replace(answer, body=b""))
        elif streams.acquire(blocking=False):
            try:
                self._send_in(answer)
            finally:
                streams.release()
        else:
            answer.body.close()
            self._send_in(json_response({"error": f"{STREAMS} previews are open, which is the most; close one"},
                                        HTTPStatus.SERVICE_UNAVAILABLE))

    def _send_in(self, answer: HttpResponse) -> None:
        self.connection.settimeout(ANSWER_S)
        self.send_response(answer.status)
        headers = {"Content-Type": answer.kind, "Cache-Control": "no-store", "X-Content-Type-Options": "nosniff",
                   "Cross-Origin-Resource-Policy": "same-origin", "Referrer-Policy": "no-referrer"}
        if isinstance(answer.body, bytes):
            headers["Content-Length"] = str(len(answer.body))
        for name, value in (headers | dict(answer.headers)).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if isinstance(answer.body, bytes):
            self.wfile.write(answer.body)
            return
        with closing(answer.body):
            for piece in answer.body:
                if piece:
                    self.wfile.write(piece)
                elif self._gone():
                    return

    def _gone(self) -> bool:
        """Whether the peer has closed the connection, or broken it."""
        self.connection.setblocking(False)
        try:
            return not self.connection.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        finally:
            self.connection.settimeout(ANSWER_S)
