"""Helps handlers of requests: JSON bodies, work on threads, and error responses."""

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

FAILED = Message("rtface could not answer; its log says why", code="failed")
BODY_BYTES = 256 * 1024
"""Limit of a JSON body, which fits the most shots and persons of a film; uploads have another limit."""

in_thread = run_in_threadpool
"""Runs a call that may block on a worker thread, and returns its result."""
JsonObject = dict[str, Any]
"""A JSON object of a request, checked by its handler, or of a response."""

_NUL = re.compile(rb"(?<!\\)(\\\\)*\\u0000")  # matches the escape \u0000, but not an escaped backslash before u0000


class FileAnswer(FileResponse):
    """Responds with a file, in chunks large enough for films. A worker thread reads each chunk."""

    chunk_size = 256 << 10


async def body(request: Request, most: int) -> bytes:
    """Reads a request's body. If it exceeds `most` bytes, raises HTTPException, which closes the connection."""
    data = bytearray()
    async for piece in request.stream():
        data += piece
        if len(data) > most:
            raise HTTPException(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                Message("a body may have at most {count} bytes", code="body_long", count=most),
                {"Connection": "close"},
            )
    return bytes(data)


async def json_body(request: Request, most: int = BODY_BYTES) -> JsonObject:
    """Reads the JSON object in a request's body. An empty body is {}.

    Raises:
        UsageError: the body is not a JSON object.
        HTTPException: see `body`.
    """
    data = await body(request, most)
    return json_object(data, "the body") if data.strip() else {}


def json_object(data: bytes | str, what: str) -> JsonObject:
    """Parses a JSON object. Raises UsageError for anything else, for numbers that are not finite, and for texts that
    cannot be in a file name."""
    with suppress(msgspec.DecodeError, UnicodeError, RecursionError):
        if not _NUL.search(data if isinstance(data, bytes) else data.encode()):
            return msgspec.json.decode(data, type=JsonObject)
    raise UsageError("{what} is not a JSON object of text and numbers", code="no_body", what=what)


def number_of(text: str, name: str, least: float, most: float) -> float:
    """Parses a number of a query, from `least` to `most`. Raises UsageError for anything else."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not least <= value <= most:
        raise UsageError(
            "{name} must be a number from {least} to {most}",
            code="not_in_range",
            name=name,
            least=f"{least:g}",
            most=f"{most:g}",
        )
    return value


def path_number(text: str) -> int:
    """Parses a number in a path, from 1. For other texts it returns 0, which is not a valid number."""
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


async def _error_answer(request: Request, error: Exception) -> Response:
    if isinstance(error, RtfaceError):
        return error_response(message_of(error), _status(error), type(error).__name__)
    if isinstance(error, HTTPException):
        return error_response(error.detail, HTTPStatus(error.status_code), **(error.headers or {}))
    return Response(status_code=HTTPStatus.BAD_REQUEST)  # the client has disconnected


async def _unknown(request: Request, error: Exception) -> Response:
    status = HTTPStatus(getattr(error, "status_code", 404))
    return error_response(f"{request.method} {request.url.path[:80]}: {status.phrase.lower()}", status)


def application(routes: Sequence[BaseRoute], *, level: int = logging.ERROR) -> Starlette:
    """Makes an application of routes. It answers errors of handlers with messages.

    Args:
        level: logging level for faults.
    """

    async def failed(request: Request, error: Exception) -> Response:
        log.log(level, "%s %s failed", request.scope.get("method"), request.scope["path"], exc_info=error)
        return error_response(FAILED, HTTPStatus.INTERNAL_SERVER_ERROR)

    handlers = dict.fromkeys((HTTPException, ClientDisconnect, RtfaceError), _error_answer)
    # Starlette's own handler for `Exception` would raise the error again after its response.
    faults = Middleware(ExceptionMiddleware, handlers={Exception: failed})
    return Starlette(routes=routes, middleware=[faults], exception_handlers={404: _unknown, 405: _unknown, **handlers})
