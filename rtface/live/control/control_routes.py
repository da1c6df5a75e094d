"""Control of a live run by HTTP: commands as by the keys, the status, and the preview page."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from functools import lru_cache, partial
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from rtface.config.options import Trait, having
from rtface.errors import InputMissing, Message, UsageError
from rtface.live.control.metrics import metrics
from rtface.live.control.preview import Preview
from rtface.live.control.status import LiveStatus
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.live.persons_in_view import PersonsInView
from rtface.stages.options import check_without_files
from rtface.web.http import error_response, in_thread, json_body, number_of

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
    filters: FrameFilters | None = None,
    *,
    files: bool = False,
) -> list[BaseRoute]:
    """Routes for a `LocalHttpServer` (docs/control.md lists the paths).

    Args:
        status: of the run; POST requests change its controls.
        preview: before|after; without one there is no /preview.mjpeg.
        persons: those in view; without them there is none of their paths.
        filters: have the stages that draw; without them there is no /stages.
        files: whether a request may give stages that read files.
    """
    controls = status.controls
    settings: dict[str, tuple[str, bool | None]] = {
        "on": ("enabled", True),
        "off": ("enabled", False),
        "always": ("always", True),
        "auto": ("always", False),
        **{name: (name, None) for name in having(Trait.CONTROL)},
    }

    def command(action: Callable[[], None], values: _Values) -> Response:
        action()
        return _json(controls.values())

    def change(name: str, value: bool | None, values: _Values) -> Response:
        controls.set(name, _new_value(name, float(controls.values()[name]), values) if value is None else value)
        return _json(controls.values())

    async def frames(request: Request) -> Response:
        if preview is None:
            raise InputMissing("this run has no preview", code="no_preview")
        pairs = preview.watch(sharp=request.query_params.get("sharp") == "1")
        if request.method == "HEAD":
            return Response(media_type=_MOTION_JPEG)
        if preview.viewers >= STREAMS:
            return error_response(
                Message("{count} previews are open, which is the most; close one", code="previews", count=STREAMS),
                HTTPStatus.SERVICE_UNAVAILABLE,
            )
        await anext(pairs, None)  # counts from now on
        return StreamingResponse(_parts(pairs), media_type=_MOTION_JPEG)

    handlers: _Routes = {
        **(_person_routes(controls, persons) if persons else {}),
        **(_stage_routes(filters, files) if filters else {}),
        ("GET", "/"): lambda _: RedirectResponse("/preview", HTTPStatus.SEE_OTHER),
        ("GET", "/status"): lambda _: _json(status.snapshot()),
        ("GET", "/metrics"): lambda _: Response(metrics(status), media_type="text/plain; version=0.0.4"),
        ("GET", "/preview"): lambda _: Response(
            _page(), media_type="text/html", headers={"Content-Security-Policy": _POLICY}
        ),
        ("POST", "/toggle"): partial(command, controls.toggle),
        ("POST", "/quit"): partial(command, controls.stop.set),
        **{("POST", f"/{path}"): partial(change, *setting) for path, setting in settings.items()},
    }
    routes = {("GET", "/preview.mjpeg"): frames} | {at: _with_values(handler) for at, handler in handlers.items()}
    return [Route(path, endpoint, methods=[method]) for (method, path), endpoint in routes.items()]


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


def _person_routes(controls: LiveControls, persons: PersonsInView) -> _Routes:
    def listed(values: _Values) -> Response:
        return _json({"persons": persons.listed()})

    def recognise(values: _Values) -> Response:
        persons.recognise()
        return listed(values)

    def change(values: _Values) -> Response:
        name = _name(values)
        controls.set_person(name, _new_value("person", controls.persons.get(name.lower(), 1.0), values))
        return listed(values)

    return {
        ("POST", "/persons"): recognise,
        ("POST", "/person"): change,
        ("GET", "/person.jpeg"): lambda values: Response(persons.face(_name(values)), media_type="image/jpeg"),
    }


def _stage_routes(filters: FrameFilters, files: bool) -> _Routes:
    def listed(values: _Values) -> Response:
        return _json({"stages": list(filters.drawn)})

    def change(values: _Values) -> Response:
        wanted: Any = values.get("stages")
        if not isinstance(wanted, list) or not all(isinstance(text, str) for text in wanted):  # pyright: ignore
            raise UsageError(
                'give all stages that are to draw, as {{"stages": ["label:text=Live"]}} in the body',
                code="stages_needed",
            )
        for text in wanted if not files else ():
            if text not in filters.drawn:
                check_without_files(text)
        filters.change(wanted)
        return listed(values)

    return {("GET", "/stages"): listed, ("POST", "/stages"): change}


def _name(values: _Values) -> str:
    name = values.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(
            "name a person, as /person?name=P1; 'GET /status' lists the persons", code="person_name_needed"
        )
    return name


def _new_value(name: str, now: float, values: _Values) -> float:
    """``value``, or what it is `now` and ``by`` more, within 0…1."""
    match {key: str(values[key]) for key in ("value", "by") if key in values}:
        case {"value": value, **others} if not others:
            return number_of(value, "value", 0.0, 1.0)
        case {"by": step, **others} if not others:
            return min(1.0, max(0.0, round(now + number_of(step, "by", -1.0, 1.0), 4)))
        case _:
            raise UsageError(
                'give a value from 0 to 1 (/{name}?value=0.6, or {{"value": 0.6}} as body) or a step (/{name}?by=-0.1)',
                code="value_needed",
                name=name,
            )


async def _parts(pairs: AsyncGenerator[bytes | None]) -> AsyncGenerator[bytes]:
    async for jpeg in pairs:
        if jpeg is not None:
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield head.encode() + jpeg + b"\r\n"


@lru_cache(maxsize=1)
def _page() -> bytes:
    return Path(__file__).with_name("preview.html").read_bytes()
