"""Decides which requests a web server accepts: those from programs and from its own pages."""

from __future__ import annotations

import hmac
import re
from collections.abc import Callable, Mapping

from starlette.datastructures import Headers
from starlette.types import Message, Send

LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})
# Accepted values of Sec-Fetch-Site: a browser's requests by the user or the server's own page; None from programs.
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
    """Returns why a request must be rejected; None if it is accepted.

    Args:
        headers: headers of the request.
        is_own: checks whether a host name, in lower case and without a port, belongs to the server.
        secure: whether clients use HTTPS.
        opened: whether other pages may link to the requested page.
    """
    host = headers.get("host", "")
    match = _HOST.fullmatch(host)
    if len(headers.getlist("host")) != 1 or match is None or not is_own((match[1] or match[2]).lower()):
        return "only requests to a host name of this machine are accepted"
    origin = f"{'https' if secure else 'http'}://{host}"
    if headers.get("origin") not in (None, origin) or not (headers.get("sec-fetch-site") in _OWN_SITE or opened):
        return "requests from other web pages are rejected"
    return None


def bearer(headers: Headers) -> str:
    """Returns the token of ``Authorization: Bearer TOKEN``; "" if there is none."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" else ""


def same(token: str, secret: str) -> bool:
    """Compares the token in a request with the secret, in constant time."""
    return hmac.compare_digest(token.encode(), secret.encode())


def with_headers(send: Send, added: Mapping[bytes, bytes]) -> Send:
    """Wraps `send` to add headers to a response."""

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", []), *added.items()]
        await send(message)

    return send_with_headers
