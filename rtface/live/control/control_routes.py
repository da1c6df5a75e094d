"""Controls a live run over HTTP: settings, status, and preview page."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from http import HTTPStatus
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from rtface.errors import UsageError
from rtface.live.control.status import LiveStatus
from rtface.live.control.status_text import metrics
from rtface.live.controls import LiveControls
from rtface.live.frame_filters import FrameFilters
from rtface.live.persons_in_view import PersonsInView
from rtface.stages.options import check_without_files
from rtface.web.http import in_thread, json_body, number_of

BODY_BYTES = 4096
_BOUNDARY = "rtface-picture"
_POLICY = (
    "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
    "img-src 'self' blob: data:; frame-ancestors 'none'"
)

_Values = dict[str, Any]
_Handler = Callable[[_Values], Response]


def control_routes(
    status: LiveStatus, persons: PersonsInView, filters: FrameFilters, *, files: bool = False
) -> list[BaseRoute]:
    """Returns routes for a `LocalHttpServer` (docs/control.md lists the paths).

    Args:
        status: status of the run; POST requests change its controls.
        persons: persons in view.
        filters: the run's frame filters, which hold the active stages and the preview.
        files: whether a request may add stages that read files.
    """
    controls = status.controls

    def change(values: _Values) -> Response:
        for name, new in values.items():
            controls.set(name, _new_value(name, controls.values().get(name), new))
        return _json(controls.values())

    def end(values: _Values) -> Response:
        controls.stop.set()
        return _json(controls.values())

    def page(values: _Values) -> Response:
        path = Path(__file__).with_name("preview.html")
        return FileResponse(path, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    def change_persons(values: _Values) -> Response:
        if values:
            _set_person(controls, values)
        else:
            persons.recognise()
        return _json({"persons": persons.listed()})

    def stages(values: _Values) -> Response:
        if "stages" in values:
            _set_stages(filters, values["stages"], files)
        return _json({"stages": list(filters.drawn)})

    async def frames(request: Request) -> Response:
        previews = filters.preview.watch()
        await anext(previews, None)  # now this viewer is counted
        return StreamingResponse(_mjpeg_parts(previews), media_type=f"multipart/x-mixed-replace; boundary={_BOUNDARY}")

    handlers: dict[tuple[str, str], _Handler] = {
        ("GET", "/"): lambda _: RedirectResponse("/preview", HTTPStatus.SEE_OTHER),
        ("GET", "/status"): lambda _: _json(status.snapshot()),
        ("GET", "/metrics"): lambda _: Response(metrics(status), media_type="text/plain; version=0.0.4"),
        ("GET", "/preview"): page,
        ("GET", "/person.jpeg"): lambda values: Response(persons.face(_name(values)), media_type="image/jpeg"),
        ("GET", "/stages"): stages,
        ("POST", "/stages"): stages,
        ("POST", "/persons"): change_persons,
        ("POST", "/set"): change,
        ("POST", "/quit"): end,
    }
    routes = {("GET", "/preview.mjpeg"): frames} | {at: _with_values(handler) for at, handler in handlers.items()}
    return [Route(path, endpoint, methods=[method]) for (method, path), endpoint in routes.items()]


def _json(value: object) -> Response:
    """Returns a response in JSON, ASCII only."""
    return Response(json.dumps(value) + "\n", media_type="application/json")


def _with_values(handler: _Handler) -> Callable[[Request], Awaitable[Response]]:
    """Wraps a handler that needs the values of a request. They come from the query string and the JSON body. POST
    requests run on a thread, because they may take long."""

    async def handle(request: Request) -> Response:
        values = dict(request.query_params) | await json_body(request, BODY_BYTES)
        return await in_thread(handler, values) if request.method == "POST" else handler(values)

    return handle


def _set_person(controls: LiveControls, values: _Values) -> None:
    name = _name(values)
    strength = _new_value("strength", controls.persons.get(name.lower(), 1.0), values.get("strength"))
    controls.set_person(name, strength)


def _set_stages(filters: FrameFilters, stages: Any, files: bool) -> None:
    if not isinstance(stages, list) or not all(isinstance(text, str) for text in stages):  # pyright: ignore
        raise UsageError(
            'the body must list all stages to draw, as in {{"stages": ["label:text=Live"]}}',
            code="stages_needed",
        )
    for text in stages if not files else ():
        if text not in filters.drawn:
            check_without_files(text)
    filters.change(stages)


def _name(values: _Values) -> str:
    name = values.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError(
            "the name of a person is missing, as in /persons?name=P1&strength=0.5; 'GET /status' lists the persons",
            code="person_name_needed",
        )
    return name


def _new_value(name: str, current: object, new: Any) -> Any:
    """Returns a setting's new value. `new` may be a signed step of at most 1, or "toggle" for a switch."""
    text = str(new).lower()
    if isinstance(current, bool):
        return not current if text == "toggle" else new
    if isinstance(current, float) and text.startswith(("+", "-", " ")):  # in a query, "+" means a space
        return min(1.0, max(0.0, round(current + number_of(text, name, -1.0, 1.0), 4)))
    return new


async def _mjpeg_parts(previews: AsyncGenerator[bytes | None]) -> AsyncGenerator[bytes]:
    async for jpeg in previews:
        if jpeg is not None:
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield head.encode() + jpeg + b"\r\n"
