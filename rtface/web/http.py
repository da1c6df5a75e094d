"""Supports request handlers: JSON bodies, work on threads, and error responses."""

from __future__ import annotations

import logging
import math
import re
from collections.abc import Sequence
from contextlib import suppress
from http import HTTPStatus
from typing import Any

import msgspec
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.exceptions import ExceptionMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute

from rtface.errors import InputMissing, Message, OutputError, RtfaceError, UsageError, log, message_of

FAILED = Message("rtface could not process the request; its log contains the reason", code="failed")
BODY_BYTES = 256 * 1024
"""Maximum size of a JSON body: enough for the most shots and persons of a film. Uploads have another limit."""

in_thread = run_in_threadpool
"""Runs a blocking call on a worker thread, and returns its result."""
JsonObject = dict[str, Any]
"""A JSON object from a request (checked by its handler) or for a response."""

_NUL = re.compile(rb"(?<!\\)(\\\\)*\\u0000")  # matches the escape \u0000, but not an escaped backslash before u0000


class FileAnswer(FileResponse):
    """Responds with a file, in chunks large enough for films. A worker thread reads each chunk."""

    chunk_size = 256 << 10


async def body(request: Request, max_bytes: int) -> bytes:
    """Reads a request's body. If it exceeds `max_bytes`, raises HTTPException, which closes the connection."""
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > max_bytes:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Message("the request body may have at most {count} bytes", code="body_long", count=max_bytes),
                {"Connection": "close"},
            )
    return bytes(data)


async def json_body(request: Request, max_bytes: int = BODY_BYTES) -> JsonObject:
    """Reads the JSON object in a request's body. An empty body is {}.

    Raises:
        UsageError: the body is not a JSON object.
        HTTPException: see `body`.
    """
    data = await body(request, max_bytes)
    return json_object(data, "the body") if data.strip() else {}


def json_object(data: bytes | str, what: str) -> JsonObject:
    """Parses a JSON object. Raises UsageError for anything else, for numbers that are not finite, and for strings with
    a NUL character, which cannot be part of a file name."""
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        if not _NUL.search(data if isinstance(data, bytes) else data.encode()):
            return msgspec.json.decode(data, type=JsonObject)
    raise UsageError("{what} must be a JSON object, without NUL characters", code="no_body", what=what)


def number_of(text: str, name: str, minimum: float, maximum: float) -> float:
    """Parses a number in a query, from `minimum` to `maximum`. Raises UsageError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not minimum <= value <= maximum:
        raise UsageError(
            "{name} must be a number from {least} to {most}",
            code="not_in_range",
            name=name,
            least=f"{minimum:g}",
            most=f"{maximum:g}",
        )
    return value


def path_number(text: str) -> int:
    """Parses a positive integer in a path. Returns 0 for any other text."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def error_response(message: str, status: HTTPStatus, kind: str = "error", **headers: str) -> JSONResponse:
    """Returns a response ``{"error": message, "kind": kind, "code": …, "values": …}``."""
    line = Message(message)
    table = {"error": str(line), "kind": kind, "code": line.code, "values": line.values}
    return JSONResponse(table, status, headers)


def refused(body: JsonObject) -> Message:
    """Returns the message in the body of an `error_response`."""
    return Message.of({**body, "message": body["error"]})


def _status(error: RtfaceError) -> HTTPStatus:
    if isinstance(error, InputMissing):
        return HTTPStatus.NOT_FOUND
    if isinstance(error, UsageError):
        return HTTPStatus.BAD_REQUEST
    return HTTPStatus.INSUFFICIENT_STORAGE if isinstance(error, OutputError) else HTTPStatus.UNPROCESSABLE_ENTITY


async def _handle_error(request: Request, error: Exception) -> Response:
    if isinstance(error, RtfaceError):
        return error_response(message_of(error), _status(error), type(error).__name__)
    if isinstance(error, HTTPException):
        return error_response(error.detail, HTTPStatus(error.status_code), **(error.headers or {}))
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # the client has disconnected


async def _no_route(request: Request, error: Exception) -> Response:
    status = HTTPStatus(getattr(error, "status_code", 404))
    return error_response(f"{request.method} {request.url.path[:80]}: {status.phrase.lower()}", status)


def application(routes: Sequence[BaseRoute], *, level: int = logging.ERROR) -> Starlette:
    """Creates an application from routes. Responds to errors of handlers with JSON messages.

    Args:
        level: logging level for unexpected errors.
    """

    async def respond(request: Request, error: Exception) -> Response:
        log.log(level, "%s %s failed", request.scope.get("method"), request.scope["path"], exc_info=error)
        return error_response(FAILED, HTTPStatus.INTERNAL_SERVER_ERROR)

    handlers = dict.fromkeys((HTTPException, ClientDisconnect, RtfaceError), _handle_error)
    # Starlette's own handler for `Exception` would raise the error again after its response.
    faults = Middleware(ExceptionMiddleware, handlers={Exception: respond})
    return Starlette(
        routes=routes, middleware=[faults], exception_handlers={404: _no_route, 405: _no_route, **handlers}
    )
