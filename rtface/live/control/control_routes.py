"""Control of a live run by HTTP: commands as by the keys, the status, and the preview page."""

from __future__ import annotations

import json
import math
from base64 import b64decode
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing, suppress
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route
from starlette.types import Receive, Scope, Send

from rtface.config.options import Trait, having
from rtface.errors import InputMissing, Message, RtfaceError, UsageError
from rtface.live.control.preview import Pair, Preview
from rtface.live.control.status import LiveStatus
from rtface.live.controls import LiveControls
from rtface.live.persons_in_view import PersonsInView
from rtface.live.stage_changer import StageChanger
from rtface.stages.options import check_without_files
from rtface.util.text import brief
from rtface.web.access import bearer, same
from rtface.web.connections import LET_IN
from rtface.web.http import error_response, in_thread, json_body

STREAMS = 4
"""Previews at a time, at most; further connections are always left for commands."""
BODY_BYTES = 4096
_BOUNDARY = "rtface-picture"
_MOTION_JPEG = f"multipart/x-mixed-replace; boundary={_BOUNDARY}"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' blob: data:; frame-ancestors 'none'"
)


_Values = dict[str, Any]
_Handler = Callable[[_Values], Response]
_Routes = dict[tuple[str, str], _Handler]


def control_routes(
    status: LiveStatus,
    preview: Preview | None = None,
    persons: PersonsInView | None = None,
    stages: StageChanger | None = None,
    key: str = "",
) -> list[BaseRoute]:
    """Routes for a `LocalHttpServer` (docs/control.md lists the paths).

    Args:
        status: of the run; POST requests change its controls.
        preview: before|after; without one there is no /preview.mjpeg.
        persons: those in view; without them there is none of their paths.
        stages: those that draw; without them there is no /stages.
        key: every request needs it, as ``Authorization: Bearer KEY`` or as the password that a browser asks for; its
            sender may give stages that read files. "" lets every program of this machine in, without such stages.
    """
    controls = status.controls

    def command(action: Callable[[], None], values: _Values) -> Response:
        action()
        return _json(controls.values())

    def change(name: str, values: _Values) -> Response:
        controls.set(name, _new_value(name, float(controls.values()[name]), values))
        return _json(controls.values())

    async def frames(request: Request) -> Response:
        if preview is None:
            raise InputMissing("this run has no preview", code="no_preview")
        values = dict(request.query_params)
        pairs = preview.watch(sharp=values.get("sharp") == "1", wipe=_wipe(values))
        if request.method == "HEAD":
            return Response(media_type=_MOTION_JPEG)
        if preview.viewers >= STREAMS:
            return error_response(
                Message("{count} previews are open, which is the most; close one", code="previews", count=STREAMS),
                HTTPStatus.SERVICE_UNAVAILABLE,
            )
        await anext(pairs, None)  # counts from now on
        return _MotionJpeg(pairs)

    handlers: _Routes = {
        **(_person_routes(controls, persons) if persons else {}),
        **(_stage_routes(stages, bool(key)) if stages else {}),
        ("GET", "/"): lambda _: RedirectResponse("/preview", HTTPStatus.SEE_OTHER),
        ("GET", "/status"): lambda _: _json(status.snapshot()),
        ("GET", "/preview"): lambda _: Response(
            _page(), media_type="text/html", headers={"Content-Security-Policy": _POLICY}
        ),
        ("POST", "/toggle"): partial(command, controls.toggle),
        ("POST", "/on"): partial(command, partial(controls.set, "enabled", True)),
        ("POST", "/off"): partial(command, partial(controls.set, "enabled", False)),
        ("POST", "/always"): partial(command, partial(controls.set, "always", True)),
        ("POST", "/auto"): partial(command, partial(controls.set, "always", False)),
        **{("POST", f"/{name}"): partial(change, name) for name in having(Trait.CONTROL)},
        ("POST", "/quit"): partial(command, controls.stop.set),
    }
    routes = {("GET", "/preview.mjpeg"): frames} | {at: _with_values(handler) for at, handler in handlers.items()}
    return [Route(path, _with_key(key, endpoint), methods=[method]) for (method, path), endpoint in routes.items()]


def _json(value: object) -> Response:
    """A response in JSON, ASCII only."""
    return Response(json.dumps(value) + "\n", media_type="application/json")


def _with_values(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
    """Gives `handler` the values of the query and of a JSON object in the body; commands, which may take long, are
    done on a thread."""

    async def handle(request: Request) -> Response:
        values = dict(request.query_params) | await json_body(request, BODY_BYTES)
        return await in_thread(handler, values) if request.method == "POST" else handler(values)

    return handle


def _with_key(key: str, endpoint: Callable[[Request], Awaitable[Response]]) -> Callable[[Request], Awaitable[Response]]:
    async def handle(request: Request) -> Response:
        if key and not same(_given(request.headers), key):
            return error_response(
                "send the key of RTFACE_CONTROL_KEY, as Authorization: Bearer KEY",
                HTTPStatus.UNAUTHORIZED,
                **{"WWW-Authenticate": 'Basic realm="rtface"'},
            )
        request.scope["state"][LET_IN] = True
        return await endpoint(request)

    return handle


def _given(headers: Headers) -> str:
    """The key in a request, as a token or as a password; "" without one."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    if scheme == "Basic":
        with suppress(ValueError):
            return b64decode(given).decode().partition(":")[2]
    return bearer(headers)


def _person_routes(controls: LiveControls, persons: PersonsInView) -> _Routes:
    def recognise(values: _Values) -> Response:
        try:
            persons.recognise()
        except RtfaceError as error:  # the network is not there, or a policy sets it
            raise UsageError(error.message) from None
        return listed()

    def change(values: _Values) -> Response:
        name = _name(values)
        controls.set_person(name, _new_value("person", controls.persons.get(name.lower(), 1.0), values))
        return listed()

    def listed() -> Response:
        return _json({"persons": persons.listed()})

    return {
        ("POST", "/persons"): recognise,
        ("POST", "/person"): change,
        ("GET", "/person.jpeg"): lambda values: Response(persons.face(_name(values)), media_type="image/jpeg"),
    }


def _stage_routes(stages: StageChanger, files: bool) -> _Routes:
    def listed(values: _Values) -> Response:
        return _json({"stages": list(stages.stages)})

    def change(values: _Values) -> Response:
        wanted: Any = values.get("stages")
        if not isinstance(wanted, list) or not all(isinstance(text, str) for text in wanted):  # pyright: ignore
            raise UsageError(
                'give all stages that are to draw, as {{"stages": ["label:text=Live"]}} in the body',
                code="stages_needed",
            )
        for text in wanted if not files else ():
            if text not in stages.stages:
                check_without_files(text)
        try:
            stages.change(wanted)
        except UsageError:
            raise
        except RtfaceError as error:  # one cannot be loaded
            raise UsageError(error.message) from None
        return listed(values)

    return {("GET", "/stages"): listed, ("POST", "/stages"): change}


def _name(values: _Values) -> str:
    name = values.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(
            "name a person, as /person?name=P1; 'GET /status' lists the persons", code="person_name_needed"
        )
    return name


def _new_value(name: str, now: float, values: dict[str, Any]) -> float:
    """``value``, or what it is `now` and ``by`` more, within 0…1."""
    given = {key: _number(key, values[key]) for key in ("value", "by") if key in values}
    if len(given) != 1:
        raise UsageError(
            'give a value from 0 to 1 (/{name}?value=0.6, or {{"value": 0.6}} as body) or a step (/{name}?by=-0.1)',
            code="value_needed",
            name=name,
        )
    return given["value"] if "value" in given else min(1.0, max(0.0, round(now + given["by"], 4)))


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise UsageError(
            "{name} is a number, not {value}", code="number_needed", name=name, value=brief(value, 40)
        ) from None


def _wipe(values: dict[str, Any]) -> tuple[float, float]:
    """Between which shares of the width a viewer's wipe stands: ``from`` and ``to``, everywhere without them."""
    start, end = (_number(key, values.get(key, absent)) for key, absent in (("from", 0.0), ("to", 1.0)))
    if not 0.0 <= start <= end <= 1.0:
        raise UsageError("from and to are shares of the width, with 0 ≤ from ≤ to ≤ 1", code="wipe_range")
    return start, end


class _MotionJpeg(StreamingResponse):
    """Pair after pair; the viewer no longer counts once it ends."""

    def __init__(self, pairs: AsyncGenerator[Pair | None]) -> None:
        super().__init__(_parts(pairs), media_type=_MOTION_JPEG)
        self._pairs = pairs

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async with aclosing(self._pairs):
            await super().__call__(scope, receive, send)


async def _parts(pairs: AsyncGenerator[Pair | None]) -> AsyncGenerator[bytes]:
    async for pair in pairs:
        if pair is not None:
            start, end = pair.wipe
            head = (
                f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nX-Wipe: {start:.6f} {end:.6f}\r\n"
                f"Content-Length: {len(pair.jpeg)}\r\n\r\n"
            )
            yield head.encode() + pair.jpeg + b"\r\n"


@lru_cache(maxsize=1)
def _page() -> bytes:
    return Path(__file__).with_name("preview.html").read_bytes()
