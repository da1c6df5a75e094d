"""Decides which requests a web server accepts: those of programs and of its own pages."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import Message, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Sec-Fetch-Site in requests of browsers by the user or the server's own page. Programs send no such header.
_OWN_SITE = (None, "none", "same-origin")
_HOST = re.compile(r"(?:\[([0-9a-f:.]+)\]|([^\[\]:/@]+))(?::\d{1,5})?", re.IGNORECASE)
HEADERS = {
    b"x-content-type-options": b"nosniff",
    b"referrer-policy": b"no-referrer",
    b"cross-origin-resource-policy": b"same-origin",
}


def foreign(
    headers: Headers, is_own: Callable[[str], bool], *, secure: bool = False, opened: bool = False
) -> str | None:
    """Returns why a request must be refused; None if it may pass.

    Args:
        headers: headers of the request.
        is_own: checks whether a host name, in lower case and without a port, belongs to the server.
        secure: whether clients use HTTPS.
        opened: whether other pages may link to the requested page.
    """
    host = headers.get("host", "")
    named = _HOST.fullmatch(host)
    if len(headers.getlist("host")) != 1 or named is None or not is_own((named[1] or named[2]).lower()):
        return "only requests to this machine's own name are answered"
    origin = f"{'https' if secure else 'http'}://{host}"
    if headers.get("origin") not in (None, origin) or not (headers.get("sec-fetch-site") in _OWN_SITE or opened):
        return "requests of other web pages are not answered"
    return None


def bearer(headers: Headers) -> str:
    """Returns the token of ``Authorization: Bearer TOKEN``; "" if there is none."""
    scheme, _, given = headers.get("authorization", "").partition(" ")
    return given if scheme == "Bearer" else ""


def same(given: str, secret: str) -> bool:
    """Compares the token in a request with the secret, in constant time."""
    return hmac.compare_digest(given.encode(), secret.encode())


def with_headers(send: Send, added: Mapping[bytes, bytes]) -> Send:
    """Wraps `send` to add headers to a response."""

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *added.items()]
        await send(message)

    return sending
