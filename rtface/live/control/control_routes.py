"""Control of a live run by HTTP: commands as by the keys, the status, and the preview page."""

from __future__ import annotations

import hmac
import math
from base64 import b64decode
from collections.abc import Callable, Generator
from contextlib import closing, suppress
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from rtface.errors import InputMissing, RtfaceError, UsageError
from rtface.live.control.http_server import HttpError, HttpRequest, HttpResponse, Routes, json_response
from rtface.live.control.preview import Pair, Preview
from rtface.live.controls import LiveControls
from rtface.live.persons_in_view import PersonsInView
from rtface.live.stage_changer import StageChanger
from rtface.stages.options import check_without_files
from rtface.util.text import brief

_BOUNDARY = "rtface-picture"
_POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
           "img-src 'self' blob: data:; frame-ancestors 'none'")


def control_routes(controls: LiveControls, status: Callable[[], dict[str, Any]],
                   preview: Preview | None = None, persons: PersonsInView | None = None,
                   stages: StageChanger | None = None, key: str = "") -> Routes:
    """Handlers for a `LocalHttpServer` (docs/control.md lists the paths).

    Args:
        controls: what POST requests change.
        status: the answer to GET /status.
        preview: before|after; without one there is no /preview.mjpeg.
        persons: those in view; without them there is none of their paths.
        stages: those that draw; without them there is no /stages.
        key: every request needs it, as ``Authorization: Bearer KEY`` or as the password that a browser asks for; its
            sender may give stages that read files. "" lets every program of this machine in, without such stages.
    """
    def command(action: Callable[[], None]) -> Callable[[HttpRequest], HttpResponse]:
        def handle(request: HttpRequest) -> HttpResponse:
            action()
            return json_response(controls.values())

        return handle

    def number(name: str) -> Callable[[HttpRequest], HttpResponse]:
        def handle(request: HttpRequest) -> HttpResponse:
            controls.set(name, _new_value(name, float(controls.values()[name]), request.values))
            return json_response(controls.values())

        return handle

    def frames(request: HttpRequest) -> HttpResponse:
        if preview is None:
            raise HttpError(HTTPStatus.NOT_FOUND, "this run has no preview")
        pairs = preview.watch(sharp=request.values.get("sharp") == "1", wipe=_wipe(request.values))
        return HttpResponse(_mjpeg(pairs), f"multipart/x-mixed-replace; boundary={_BOUNDARY}")

    routes: Routes = {
        **(_person_routes(controls, persons) if persons else {}),
        **(_stage_routes(stages, bool(key)) if stages else {}),
        ("GET", "/"): lambda _: HttpResponse(b"", "text/plain", HTTPStatus.SEE_OTHER, {"Location": "/preview"}),
        ("GET", "/status"): lambda _: json_response(status()),
        ("GET", "/preview"): lambda _: HttpResponse(_page(), "text/html; charset=utf-8",
                                                    headers={"Content-Security-Policy": _POLICY}),
        ("GET", "/preview.mjpeg"): frames,
        ("POST", "/toggle"): command(controls.toggle),
        ("POST", "/on"): command(lambda: controls.set("enabled", True)),
        ("POST", "/off"): command(lambda: controls.set("enabled", False)),
        ("POST", "/strength"): number("strength"),
        ("POST", "/light"): number("light"),
        ("POST", "/cpu_budget"): number("cpu_budget"),
        ("POST", "/quit"): command(lambda: controls.stop.set()),
    }
    return {at: _with_key(key, handler) for at, handler in routes.items()} if key else routes


def _with_key(key: str, handler: Callable[[HttpRequest], HttpResponse]) -> Callable[[HttpRequest], HttpResponse]:
    def handle(request: HttpRequest) -> HttpResponse:
        scheme, _, given = request.headers.get("authorization", "").partition(" ")
        if scheme == "Basic":
            with suppress(ValueError):
                given = b64decode(given).decode().partition(":")[2]
        if not hmac.compare_digest(given.encode(), key.encode()):
            return json_response({"error": "send the key of RTFACE_CONTROL_KEY, as Authorization: Bearer KEY"},
                                 HTTPStatus.UNAUTHORIZED, **{"WWW-Authenticate": 'Basic realm="rtface"'})
        return handler(request)

    return handle


def _person_routes(controls: LiveControls, persons: PersonsInView) -> Routes:
    def recognise(request: HttpRequest) -> HttpResponse:
        try:
            persons.recognise()
        except RtfaceError as error:  # the network is not there, or a policy forbids it
            raise UsageError(str(error)) from None
        return listed()

    def change(request: HttpRequest) -> HttpResponse:
        name = _name(request)
        controls.set_person(name, _new_value("person", controls.persons.get(name.lower(), 1.0), request.values))
        return listed()

    def face(request: HttpRequest) -> HttpResponse:
        try:
            return HttpResponse(persons.face(_name(request)), "image/jpeg")
        except InputMissing as error:
            raise HttpError(HTTPStatus.NOT_FOUND, str(error)) from None

    def listed() -> HttpResponse:
        return json_response({"persons": persons.listed()})

    return {("POST", "/persons"): recognise, ("POST", "/person"): change, ("GET", "/person.jpeg"): face}


def _stage_routes(stages: StageChanger, files: bool) -> Routes:
    def listed(request: HttpRequest) -> HttpResponse:
        return json_response({"stages": list(stages.stages)})

    def change(request: HttpRequest) -> HttpResponse:
        wanted: Any = request.values.get("stages")
        if not isinstance(wanted, list) or not all(isinstance(text, str) for text in wanted):  # pyright: ignore
            raise UsageError('give all stages that are to draw, as {"stages": ["label:text=Live"]} in the body')
        for text in wanted if not files else ():
            if text not in stages.stages:
                check_without_files(text)
        try:
            stages.change(wanted)
        except UsageError:
            raise
        except RtfaceError as error:  # one cannot be loaded
            raise UsageError(str(error)) from None
        return listed(request)

    return {("GET", "/stages"): listed, ("POST", "/stages"): change}


def _name(request: HttpRequest) -> str:
    name = request.values.get("name")
    if not isinstance(name, str) or not name:
        raise UsageError("name a person, as /person?name=P1; 'GET /status' lists the persons")
    return name


def _new_value(name: str, now: float, values: dict[str, Any]) -> float:
    """``value``, or what it is `now` and ``by`` more, within 0…1."""
    given = {key: _number(key, values[key]) for key in ("value", "by") if key in values}
    if len(given) != 1:
        raise UsageError(f'give a value from 0 to 1 (/{name}?value=0.6, or {{"value": 0.6}} as body) or a step '
                         f"(/{name}?by=-0.1)")
    return given["value"] if "value" in given else min(1.0, max(0.0, round(now + given["by"], 4)))


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} is a number, not {brief(value, 40)}") from None


def _wipe(values: dict[str, Any]) -> tuple[float, float]:
    """Between which shares of the width a viewer's wipe stands: ``from`` and ``to``, everywhere without them."""
    start, end = (_number(key, values.get(key, absent)) for key, absent in (("from", 0.0), ("to", 1.0)))
    if not 0.0 <= start <= end <= 1.0:
        raise UsageError("from and to are shares of the width, with 0 ≤ from ≤ to ≤ 1")
    return start, end


def _mjpeg(pairs: Generator[Pair | None]) -> Generator[bytes]:
    with closing(pairs):
        for pair in pairs:
            if pair is None:
                yield b""
                continue
            start, end = pair.wipe
            head = (f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nX-Wipe: {start:.6f} {end:.6f}\r\n"
                    f"Content-Length: {len(pair.jpeg)}\r\n\r\n")
            yield head.encode() + pair.jpeg + b"\r\n"


@lru_cache(maxsize=1)
def _page() -> bytes:
    return Path(__file__).with_name("preview.html").read_bytes()
