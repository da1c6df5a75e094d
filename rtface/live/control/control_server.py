"""The control endpoint: what the keys do, the status and the preview, for other programs of this machine."""

from __future__ import annotations

import math
import threading
import webbrowser
from collections.abc import Callable, Generator
from contextlib import closing
from functools import lru_cache
from http import HTTPStatus
from pathlib import Path
from typing import Any

from rtface.errors import UsageError
from rtface.live.control.http_server import HttpError, HttpRequest, HttpResponse, LocalHttpServer, json_response
from rtface.live.control.preview import Preview
from rtface.live.controls import LiveControls
from rtface.util.text import brief

_BOUNDARY = "rtface-picture"
_POLICY = ("default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; "
           "img-src 'self' blob: data:; frame-ancestors 'none'")


class ControlServer:
    """Serves `controls`, the status and the preview on 127.0.0.1 (docs/control.md has every path).

    Args:
        controls: what POST requests change.
        status: the answer to GET /status.
        preview: before|after; None has no pictures.
        port: 0 takes a free one.

    Raises:
        UsageError: the port cannot be had.
    """

    def __init__(self, controls: LiveControls, status: Callable[[], dict[str, Any]], *, preview: Preview | None = None,
                 port: int = 0) -> None:
        self._controls, self._status, self._preview = controls, status, preview
        self._server = LocalHttpServer({
            ("GET", "/"): lambda request: HttpResponse(b"", "text/plain", HTTPStatus.SEE_OTHER,
                                                       {"Location": "/preview"}),
            ("GET", "/status"): lambda request: json_response(status()),
            ("GET", "/preview"): lambda request: HttpResponse(_page(), "text/html; charset=utf-8",
                                                              headers={"Content-Security-Policy": _POLICY}),
            ("GET", "/preview.mjpeg"): self._pictures,
            ("POST", "/toggle"): self._does(controls.toggle),
            ("POST", "/on"): self._does(lambda: controls.set("enabled", True)),
            ("POST", "/off"): self._does(lambda: controls.set("enabled", False)),
            ("POST", "/strength"): lambda request: self._set("strength", request),
            ("POST", "/light"): lambda request: self._set("light", request),
            ("POST", "/quit"): self._does(lambda: controls.stop.set()),
        }, port=port, option="--control")

    @property
    def address(self) -> str:
        """Its URL, without a slash at the end."""
        return self._server.address

    def open_preview(self) -> bool:
        """Shows the page in the user's browser, without waiting for it; False where there is none (the address is for
        telling then)."""
        try:
            browser = webbrowser.get()
        except webbrowser.Error:
            return False
        if type(browser) is webbrowser.GenericBrowser:  # one for terminals: it would take ours, and wait
            return False
        threading.Thread(target=browser.open, args=(f"{self.address}/preview",), name="rtface-browser",
                         daemon=True).start()
        return True

    def close(self) -> None:
        """Ends it and the preview; safe to call twice."""
        if self._preview is not None:
            self._preview.close()
        self._server.close()

    def _does(self, action: Callable[[], None]) -> Callable[[HttpRequest], HttpResponse]:
        def answer(request: HttpRequest) -> HttpResponse:
            action()
            return json_response(self._controls.values())

        return answer

    def _set(self, name: str, request: HttpRequest) -> HttpResponse:
        """To ``value``, or on from what it is ``by`` so much, no further than it goes."""
        given = {key: _number(key, request.values[key]) for key in ("value", "by") if key in request.values}
        if len(given) != 1:
            raise UsageError(f'give a value from 0 to 1 (/{name}?value=0.6, or {{"value": 0.6}} as body) or a step '
                             f"(/{name}?by=-0.1)")
        value = given["value"] if "value" in given else \
            min(1.0, max(0.0, round(float(self._controls.values()[name]) + given["by"], 4)))
        self._controls.set(name, value)
        return json_response(self._controls.values())

    def _pictures(self, request: HttpRequest) -> HttpResponse:
        if self._preview is None:
            raise HttpError(HTTPStatus.NOT_FOUND, "this run has no preview")
        return HttpResponse(_parts(self._preview.watch()), f"multipart/x-mixed-replace; boundary={_BOUNDARY}")


def _number(name: str, value: object) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # whatever it is
        if isinstance(value, bool) or not math.isfinite(number):
            raise ValueError
        return number
    except (TypeError, ValueError, OverflowError):
        raise UsageError(f"{name} is a number, not {brief(value, 40)}") from None


def _parts(pictures: Generator[bytes]) -> Generator[bytes]:
    with closing(pictures):
        for jpeg in pictures:
            if not jpeg:
                yield b""
                continue
            head = f"--{_BOUNDARY}\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\n\r\n"
            yield head.encode() + jpeg + b"\r\n"


@lru_cache(maxsize=1)
def _page() -> bytes:
    return Path(__file__).with_name("preview.html").read_bytes()
